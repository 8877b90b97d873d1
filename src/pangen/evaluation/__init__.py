"""How good a model is: likelihood, fidelity, diversity, memorisation, cost; one model or many."""

from pangen.evaluation.check import check
from pangen.evaluation.comparison import Stage, compare
from pangen.evaluation.frontier import frontier
from pangen.evaluation.judge import Judge, evaluate
from pangen.evaluation.table import table_rows

__all__ = ["Judge", "Stage", "check", "compare", "evaluate", "frontier", "table_rows"]
