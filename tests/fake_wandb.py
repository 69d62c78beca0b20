"""A module wandb that notes what it is told."""

FAKE = """
import json, os, sys, time
LOG = open({log!r}, "a")
def note(kind, **content):
    print(json.dumps(dict(kind=kind, **content)), file=LOG, flush=True)
class Summary(dict):
    pass
class Config(dict):
    def update(self, values, allow_val_change):
        note("config", values=values); dict.update(self, values)
class Settings:
    def __init__(self, **settings): note("settings", **settings)
class Table:
    def __init__(self, columns, data): note("table", columns=columns, rows=len(data))
class Image:
    def __init__(self, picture): note("image", size=picture.size)
class Html:
    def __init__(self, file, inject): note("html", text=open(file).read(), inject=inject)
class Run:
    resumed, offline, sweep_id = False, True, None
    def __init__(self): self.summary, self.config = Summary(), Config()
    def define_metric(self, *names, **more): note("metric", names=names, **more)
    def log(self, row, step=None):
        assert step == row.get("iteration")
        note("log", row={{k: v for k, v in row.items() if isinstance(v, float | int)}})
        {on_log}
    def mark_preempting(self): note("preempting")
    def finish(self, exit_code=None): note("finish", exit_code=exit_code, summary=self.summary)
def init(**arguments):
    arguments.pop("settings"); note("init", **arguments)
    {on_init}
    return Run()
"""
