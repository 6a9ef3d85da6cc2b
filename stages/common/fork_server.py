"""Imported first by the fork server of the workers: it must end with its stage even while it imports more modules."""

import signal

from stages.common.signals import end_with_starter

end_with_starter(signal.SIGKILL)
