"""Caption texts: what is shown, where overlays are from, what theory assumes."""

from __future__ import annotations

_HE = "He et al. 2015, arXiv 1512.03385"

_THEORY = (
    "Dotted, in plain panels: theory at initialisation. Batch normalisation followed by ReLU "
    "multiplies the squared gradient norm by π/(π−1) per layer toward the input, the norm by "
    "1.211 (Yang et al. 2019, arXiv 1902.08129); without normalisation the norm keeps its size "
    "under He initialisation and falls by 0.707 under LeCun initialisation (He et al. 2015, "
    "arXiv 1502.01852, section 2.2). Theory assumes wide layers of equal width and, for batch "
    "normalisation, fully connected ones and a large batch; these networks are convolutional, "
    "narrow, change width and map size between stages, and have batches of finite size."
)

ERROR_AGAINST_DEPTH = (
    "Error at the end of training against depth, (a) on the training images and (b) on the "
    "test images, of plain and residual networks. Lines join means over seeds, faint points "
    "are single seeds, bars are ± one standard deviation. A run that diverged counts with its "
    "last error and is drawn as a cross. Where the data are CIFAR-10, hollow diamonds are "
    f"published values ({_HE}): test errors of residual networks from Table 6 (for ResNet-110 "
    "the mean of five runs), all others read off Figure 6; an upward arrow on a diamond marks "
    "a published lower bound."
)

TRAINING_CURVES = (
    f"Error against iteration in the style of {_HE}, Figure 6: training error thin and dashed, "
    "test error bold, darker for deeper networks. Lines are means over seeds, bands reach from "
    "the smallest to the largest seed. Where the data are CIFAR-10, hollow marks on the right "
    "edge are published final errors (triangles: training; circles: test) of Figure 6 and "
    "Table 6."
)

GRADIENT_PROFILE = (
    "Norm of the loss gradient with respect to the output z of every 3×3 layer before "
    "normalisation, relative to that of the last 3×3 layer, at initialisation and after the "
    "given numbers of iterations. A line that rises toward the left is a gradient that grows "
    f"toward the input. Geometric means over seeds, bands from smallest to largest. {_THEORY}"
)

GRADIENT_HEATMAP = (
    "Norm of the loss gradient with respect to the output z of every 3×3 layer before "
    "normalisation, at every recorded iteration, of the network of 56 layers, or else "
    "the deepest that all families have. Geometric mean over seeds. The iteration axis is "
    "logarithmic and holds iteration 0; the colour scale is the same for all panels. Norms "
    "with respect to z also fall as 1/‖w‖ when weights grow (see the gradient ratio)."
)

UPDATE_HEATMAP = (
    "How far one iteration moves the weights of every 3×3 layer relative to their size, "
    "‖Δw‖/‖w‖, learning rate and momentum included, of the network of 56 layers, or else the "
    "deepest that all families have. Geometric mean over seeds. Where it is small the layer "
    "is all but frozen. The iteration axis is logarithmic and holds iteration 0; the colour "
    "scale is the same for all panels."
)

GRADIENT_RATIO = (
    "Gradient norm at the first 3×3 layer divided by that at the last one, (a) with respect to "
    "the output z before normalisation and (b) with respect to the response y after it. "
    "∂L/∂z of a normalised layer shrinks in proportion to 1/‖w‖ when its weights grow, although "
    "the signal that passes through is unchanged; ∂L/∂y does not depend on the scale of the "
    "layer's own weights. Only where both are small has the gradient vanished. Geometric means "
    "over seeds, bands from smallest to largest; at most three depths."
)

RESPONSE_STD = (
    "Standard deviation of the responses of the 3×3 layers (output after batch normalisation, "
    "before nonlinearity and addition) after training, in layer order and sorted by magnitude "
    f"within each run, as {_HE}, Figure 7. Means over seeds of finished runs, bands from "
    "smallest to largest. Where the data are CIFAR-10, circles are that figure's values, read "
    "off its vector paths (one run each)."
)
