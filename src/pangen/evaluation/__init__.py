"""How good a model is: likelihood, fidelity, diversity, memorisation, cost; one model or many."""

from pangen.evaluation.check import check
from pangen.evaluation.comparison import compare
from pangen.evaluation.frontier import frontier
from pangen.evaluation.gym import gym
from pangen.evaluation.judge import Judge, evaluate
from pangen.evaluation.stage import Stage
from pangen.evaluation.table import table_rows
from pangen.evaluation.verify import merge_ledgers, verify

__all__ = [
    "Judge",
    "Stage",
    "check",
    "compare",
    "evaluate",
    "frontier",
    "gym",
    "merge_ledgers",
    "table_rows",
    "verify",
]
