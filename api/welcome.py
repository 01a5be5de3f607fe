"""What a browser sees at `/` until the page is there: what this is, and where to go."""

__all__ = ["WELCOME"]

WELCOME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Threadhold</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
  pre { overflow: auto; padding: .75rem; border: 1px solid; border-radius: .4rem }
</style>
<h1>Threadhold</h1>
<p>This is a self-hosted server for OpenAI's Assistants API, on any model. It is up.</p>
<p>Point a program at it by its <code>base_url</code>:</p>
<pre>from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:3000/v1", api_key="any")
assistant = client.beta.assistants.create(model="", instructions="Be brief.")</pre>
<ul>
  <li><a href="/docs">Every route, to try</a> (works offline)</li>
  <li><a href="/openapi.json">The OpenAPI document</a></li>
  <li><a href="/ready">Is it ready?</a> The store and the model's server, checked</li>
  <li><a href="/models">The models it can use</a></li>
</ul>
"""
