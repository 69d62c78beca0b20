"""A small wandb server on loopback, for the real client: sweeps, agents and runs.

It knows what `wandb sweep`, `wandb agent`, `wandb.init` and `wandb sync` ask for, and keeps
what they send. Grids are expanded here as wandb does, independently of the package.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

ENTITY, PROJECT = "tester", "resnet-study"


@dataclass
class RunRecord:
    """What the server got of one run."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    display_name: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    sweep: str | None = None
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    artifacts: list[str] = field(default_factory=list)
    exit_code: int | None = None
    preempting: bool = False
    starts: int = 0

    @property
    def own_config(self) -> dict[str, Any]:
        """Values by name, without wandb's own."""
        return {name: entry["value"] for name, entry in self.config.items() if name != "_wandb"}

    def rows(self, key: str) -> list[dict[str, Any]]:
        """History rows that hold a key, in order."""
        return [row for _, row in sorted(self.history.items()) if key in row]


class WandbServer:
    """Use as a context manager; `url` is for WANDB_BASE_URL.

    Args:
        fail: answer every request with this HTTP status.
    """

    def __init__(self, fail: int | None = None) -> None:
        self.fail = fail
        self.runs: dict[str, RunRecord] = {}
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.queue: list[dict[str, Any]] = []
        self.to_stop: set[str] = set()
        self.operations: list[str] = []
        self.errors: list[str] = []
        self.lock = threading.RLock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, content: Any, status: int = 200) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def do_GET(self) -> None:
                self.answer({})

            def do_PUT(self) -> None:
                self.body()
                self.answer({})

            def do_POST(self) -> None:
                body = self.body()
                if server.fail is not None:
                    self.answer({"errors": [{"message": "refused"}]}, server.fail)
                elif self.path.endswith("/file_stream"):
                    name = self.path.split("/")[-2]
                    self.answer(server.stream(name, json.loads(body)))
                elif self.path == "/graphql":
                    self.answer(server.graphql(json.loads(body)))
                else:
                    self.answer({})

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                # A client that is killed resets its connections; a fault of this server
                # shows as an answer that never comes.
                if not isinstance(error := sys.exc_info()[1], ConnectionError):
                    server.errors.append(f"{type(error).__name__}: {error}")

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def environment(self) -> dict[str, str]:
        """Variables that lead the real client here."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ENTITY": ENTITY,
            "WANDB_PROJECT": PROJECT,
        }

    def run(self, name: str) -> RunRecord:
        return self.runs.setdefault(name, RunRecord(name))

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, variables = request["query"], request.get("variables") or {}
        match = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = match[1] if match else ""
        with self.lock:
            self.operations.append(operation)
            answer = getattr(self, f"on_{operation}", None)
            return {"data": answer(variables) if answer else {}}

    def on_Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "v", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def on_UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("id") or f"sweep{len(self.sweeps)}"
        if config := variables.get("config"):
            self.sweeps[name] = yaml.safe_load(config)
            self.queue += [
                {"type": "run", "run_id": f"{name}x{number}", "program": "", "args": point}
                for number, point in enumerate(_grid(self.sweeps[name]["parameters"]))
            ]
        return {
            "upsertSweep": {"sweep": {"name": name, **_project()}, "configValidationWarnings": []}
        }

    def on_SweepWithRuns(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["sweep"]
        config = yaml.safe_dump(self.sweeps[name])
        sweep = {"id": name, "name": name, "state": "RUNNING", "config": config}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def on_CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def on_Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        state = variables.get("runState") or "{}"
        running = [name for name, alive in json.loads(state).items() if alive]
        commands: list[dict[str, Any]] = [
            {"type": "stop", "run_id": name} for name in running if name in self.to_stop
        ]
        if not running:
            commands = [self.queue.pop(0)] if self.queue else [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def on_ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def on_CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        asked = variables["input"]
        self.run(asked["runName"]).artifacts.append(asked["artifactTypeName"])
        # Committed already: the client has nothing to upload.
        sequence = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def on_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.run(variables["name"])
        inserted = run.starts == 0
        if variables.get("config"):
            run.config |= json.loads(variables["config"])
        run.display_name = variables.get("displayName") or run.display_name
        run.sweep = variables.get("sweep") or run.sweep
        described = ("groupName", "jobType", "tags", "notes", "program")
        run.about |= {name: variables[name] for name in described if variables.get(name)}
        run.starts += 1
        bucket = {
            "id": run.name,
            "name": run.name,
            "displayName": run.display_name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": run.sweep,
            "historyLineCount": len(run.history),
            **_project(),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def on_RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        project = _project()["project"]
        if name not in self.runs:
            return {"model": {**project, "bucket": None}}
        run = self.runs[name]
        last = [json.dumps(row) for _, row in sorted(run.history.items())][-1:]
        bucket = {
            "id": run.name,
            "name": run.name,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(last),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**project, "bucket": bucket}}

    def on_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.run(variables["run"])
        run.files |= set(variables["files"])
        files = [{"name": f, "uploadUrl": f"{self.url}/put/{f}"} for f in variables["files"]]
        return {"createRunFiles": {"runID": run.name, "uploadHeaders": [], "files": files}}

    def stream(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            run = self.run(name)
            for file, chunk in (content.get("files") or {}).items():
                if file == "wandb-history.jsonl":
                    for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                        run.history[number] = json.loads(line)
                elif file == "wandb-summary.json":
                    run.summary = json.loads(chunk["content"][-1])
            run.preempting |= bool(content.get("preempting"))
            if content.get("complete"):
                run.exit_code = content.get("exitcode")
        return {"exitcode": None, "limits": {}}


def _project() -> dict[str, Any]:
    entity = {"id": ENTITY, "name": ENTITY}
    return {"project": {"id": PROJECT, "name": PROJECT, "entity": entity}}


def _grid(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point, the parameters sorted by name and the last fastest, as wandb's server."""
    return [
        {name: {"value": value} for name, value in point.items()} for point in _points(parameters)
    ]


def _points(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Nested parameters make nested values."""
    names = sorted(parameters)
    choices = [
        _points(parameters[name]["parameters"])
        if "parameters" in parameters[name]
        else parameters[name].get("values", [parameters[name].get("value")])
        for name in names
    ]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*choices)]
