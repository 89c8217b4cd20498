"""Is an integrator right? Linear algebra, transfer matrices and Monte Carlo, held against what its class declares."""

from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .nonlinear import Table as Table
