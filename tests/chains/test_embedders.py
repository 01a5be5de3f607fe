"""The embedder that a setting selects."""

import pytest

from chains import Builtin, ModelRouter, OpenAIBackend, RoutedUpstream, Upstream
from chains.embedders import choose_embedder
from chains.embeddings import UpstreamEmbedder
from chains.minilm import MiniLm
from wire.errors import ThreadholdError


def router(first: Upstream, *names: str) -> ModelRouter:
    others = [(name, Upstream(f"http://127.0.0.1:9/{name}")) for name in names]
    return ModelRouter(
        [RoutedUpstream(name, upstream, OpenAIBackend(upstream)) for name, upstream in [("", first), *others]]
    )


@pytest.mark.parametrize(
    ("setting", "upstream", "model"),
    [("e5", "v1", "e5"), ("org/e5", "v1", "org/e5"), ("near/e5", "near", "e5"), ("near/org/e5", "near", "org/e5")],
)
async def test_a_model_is_requested_from_the_upstream_in_its_name(setting: str, upstream: str, model: str) -> None:
    embedder = choose_embedder(setting, router(Upstream("http://127.0.0.1:9/v1"), "near"))
    assert isinstance(embedder, UpstreamEmbedder)
    endpoint = embedder.upstream.endpoint
    assert endpoint is not None
    assert (endpoint.base, embedder.name) == (f"http://127.0.0.1:9/{upstream}", model)


async def test_without_a_setting_the_built_in_model_is_used() -> None:
    embedder = choose_embedder("", router(Builtin()))
    assert isinstance(embedder, MiniLm)
    await embedder.close()


def test_a_model_that_no_upstream_serves_stops_the_start() -> None:
    with pytest.raises(ThreadholdError, match="EMBEDDINGS_MODEL is `e5`"):
        choose_embedder("e5", router(Builtin()))
