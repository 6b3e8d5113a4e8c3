"""Eight generative systems, the data they learn from and the checks that keep what is said about them true.

`aigc_lib.load("gan-digits")` gives a trained model; `aigc_lib.training.train("gan-digits")` trains one; the command
`aigc` does both from a terminal. Nothing here reaches the network at run time.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str):
    # `load` pulls in torch and the model files; `import aigc_lib` alone must stay quick and need no data package.
    if name == "load":
        return import_module("aigc_lib.training.checkpoints").load
    raise AttributeError(f"module 'aigc_lib' has no attribute {name!r}")
