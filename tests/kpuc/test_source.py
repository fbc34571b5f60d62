"""Which line of a traceback is the user's."""

import pytest
import torch

from kpuc.source import deepest_frame

TRACE = """  File "/home/ann/nets/mlp.py", line 12, in forward
    return self.fc(x)
  File "{torch}/nn/modules/linear.py", line 134, in forward
    return F.linear(input, self.weight, self.bias)
"""


@pytest.mark.parametrize(
    "installed", [torch.__path__[0], "/home/ann/env/lib/python3.12/site-packages/torch"]
)
def test_the_users_line_is_found_above_torch_wherever_torch_was_installed(installed):
    found = deepest_frame(TRACE.format(torch=installed))
    assert found == "/home/ann/nets/mlp.py:12: return self.fc(x)"
