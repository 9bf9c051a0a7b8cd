"""Preference training on an export: objectives, log-probs, the trainer and the metrics that tell the truth."""

import logging

# where bitsandbytes is installed, peft imports it, and on a CPU it warns about a kernel that training does not need
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
