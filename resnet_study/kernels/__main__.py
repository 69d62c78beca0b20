"""Builds the native kernels: python -m resnet_study.kernels"""

from resnet_study.kernels.build import BuildError, build

try:
    print(build())
except BuildError as error:
    raise SystemExit(f"not built: {error}") from None
