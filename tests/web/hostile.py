"""Strings that try to run scripts, load, navigate or make requests; a success calls or requests `pwned`."""

__all__ = ["HOSTILE", "HOSTILE_MARKDOWN"]

HOSTILE = (
    "<script>pwned(1)</script>",
    "<img src=x onerror=pwned(2)>",
    "<svg/onload=pwned(3)><svg><script href='data:text/javascript,pwned(3)'/></svg>",
    "<iframe src='javascript:parent.pwned(4)' srcdoc='<script>parent.pwned(4)</script>'></iframe>",
    "\"'><body onload=pwned(5)><input autofocus onfocus=pwned(5)>",
    "<a href='javascript:pwned(6)'>six</a><base href='http://pwned.test/'>",
    "<meta http-equiv=refresh content='0;url=http://pwned.test/7'>",
    "<link rel=stylesheet href=http://pwned.test/8.css><style>@import 'http://pwned.test/8b.css'</style>",
    "<form action=http://pwned.test/9><button autofocus>9</button></form><details open ontoggle=pwned(9)>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=pwned(10)>'>",
    "</textarea></title></style></script><script>pwned(11)</script><!--",
    "javascript:pwned(12)//${pwned(12)}{{pwned(12)}}<%= pwned(12) %>",
    "\u202e<img src=//pwned.test/13.png>\u2066\u0000\ufeff<scr\u0000ipt>pwned(13)</scr\u0000ipt>",
    "<video><source onerror=pwned(14) src=http://pwned.test/14.mp4></video><object data=http://pwned.test/14></object>",
    "__proto__ constructor toString hasOwnProperty {0} {1} $& $1 %s",
    "<dialog open><form method=dialog></form></dialog><template><img src=x onerror=pwned(16)></template>",
)
"""Sixteen, for any place where text is shown."""

HOSTILE_MARKDOWN = (
    "![a](http://pwned.test/m1.png) ![b][ref]\n\n[ref]: http://pwned.test/m2.png",
    "[a](javascript:pwned(1)) [b](JaVaScRiPt:pwned(2)) [c](java\tscript:pwned(3)) [d](&#106;avascript:pwned(4))",
    "[e](data:text/html,<script>pwned(5)</script>) [f](vbscript:pwned(6)) [g](file:///etc/passwd) [h](blob:x)",
    "<javascript:pwned(7)> <data:text/html,pwned> [i](//pwned.test/m8) [j](/m9?pwned) [k](#thread_pwned)",
    "```html\n<script>pwned(10)</script>\n```\n\n`<img src=x onerror=pwned(11)>`",
    "| a | b |\n|---|---|\n| <img src=x onerror=pwned(12)> | ![c](http://pwned.test/m13.png) |",
    "# <img src=x onerror=pwned(14)>\n\n> - 1. <svg onload=pwned(15)>",
    '[![l](http://pwned.test/m16.png)](javascript:pwned(16))\n\n[m](http://a.test/"onmouseover="pwned(17))',
)
"""The same in the ways of Markdown, for answers."""
