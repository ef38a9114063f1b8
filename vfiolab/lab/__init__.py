"""Widget apps for JupyterLab: thin; each click calls public verbs and shows them as code.

They load, and ipywidgets with them, when one is asked for: `vfiolab lab` itself needs none.
What may not come in: state beside the host and its log, and anything that a learner could not type.
"""

from vfiolab._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
