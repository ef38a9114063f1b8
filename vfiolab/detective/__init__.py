"""An error line or a log in, the cause out: families of lines as data, and the model asked where numbers decide.

What may not come in: a line's words. A kind of line is a family in `data/lines/`, with an example and its public source; a contributor
adds one there. What is here reads the families, finds their lines, and asks the model.
"""

from vfiolab.detective.answer import Answer, Log, explain
from vfiolab.detective.mapcall import Case, Explanation, explain_map

__all__ = ["Answer", "Case", "Explanation", "Log", "explain", "explain_map"]
