"""Lets a stock `lm_eval` find midistill: a backport of the harness's entry points, until it has them all.

A ``.pth`` file imports this module at the start of every Python process, so it imports and does next to nothing: it
puts one finder on ``sys.meta_path``, which wakes on five imports of the harness and on nothing else. Whatever goes
wrong, the import goes on as if we were not there. ``MIDISTILL_AUTOLOAD=0`` switches it off.
"""

import sys


class _Loader:
    """Runs a module's own loader, then the hook for it."""

    def __init__(self, loader, hook):
        self._loader, self._hook = loader, hook

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        try:
            from midistill_tasks import harness

            getattr(harness, self._hook)(module)
        except Exception as error:  # never the reason why the harness does not start
            print(
                f"midistill: not loaded into lm_eval ({error!r}); MIDISTILL_AUTOLOAD=0 silences this", file=sys.stderr
            )


class _Finder:
    hooks = {  # noqa: RUF012
        "lm_eval.tasks.manager": "add_tasks",
        "lm_eval.api.metrics": "add_metrics",
        "lm_eval.models.huggingface": "add_models",
        "lm_eval.models.vllm_causallms": "extend_vllm",
        "lm_eval._cli.run": "add_last_words",
    }

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hook = cls.hooks.get(name)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if finder is cls or not hasattr(finder, "find_spec"):  # importlib passes those by, too
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, hook)
                return spec
        return None


def _wanted():
    # os is imported by every start of Python before .pth files are read
    return sys.modules["os"].environ.get("MIDISTILL_AUTOLOAD") != "0"


try:
    if _wanted() and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
except Exception:  # noqa: S110  a broken start of every Python process would be worse than no plugin
    pass
