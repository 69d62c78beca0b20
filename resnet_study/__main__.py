"""``python -m resnet_study`` is the command ``resnet-study``."""

from resnet_study.cli import main

main()
