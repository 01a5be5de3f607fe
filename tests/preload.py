"""Imports the slowest modules before the tests' fork server forks.

None of these modules reads the environment or starts a thread at import. Ours take half of a start's processor time:
`server.py` itself imports them only after its port is open.
"""

# ruff: noqa: F401
import gc

import aiohttp
import fastapi
import fastapi_offline
import httpcore2
import httpx2
import json_repair
import jsonschema
import langchain_openai
import langgraph.graph
import langserve
import numpy
import openai
import pydantic_settings
import sqlite_utils
import sse_starlette
import uvicorn

import api.app
import graphs.runner
import ops.start
import server
import store.backend
import telemetry.version

telemetry.version.installed_version()  # runs git, and caches the result
gc.freeze()  # so that a child's first collection does not copy all pages
