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

WEIGHT_GROWTH = (
    "Weight norm of chosen 3×3 layers relative to initialisation, and their effective step e = "
    "η‖∂L/∂w‖ / (√(1−μ²)‖w‖), the angle by which the gradient of the loss alone turns a layer in "
    "one iteration, if successive gradients are independent; of the depth with most seeds, or else "
    "the deepest. A layer followed by batch normalisation depends on the direction of its weights "
    "alone, so its gradient falls as 1/‖w‖. Geometric means over seeds, bands from smallest to "
    "largest. Dotted: from its peak, the norm of the layer that grew most if weight decay alone "
    "acted, exp(−ηλk/(1−μ)); and the equilibrium of weight decay and growth, e = √(2ηλ/(1+μ)) "
    "(Wan et al. 2020, arXiv 2006.08419)."
)

THAW_TIMES = (
    "When layers that the first iterations froze move again, against when they were predicted to: "
    "a point per layer and run. Frozen: after 50 iterations an effective step below a tenth of its "
    "equilibrium √(2ηλ/(1+μ)), and weights that grew by a factor of e or more. Thawed: half of the "
    "equilibrium, as median of three records. Predicted from the first 50 iterations (a) by the "
    "time in which weight decay brings the norm back to where it began, (1−μ)/(ηλ)·ln G for growth "
    "by a factor G, and (b) by the time in which the effective step rises to half of the "
    "equilibrium if the gradient at given norm stays as it is. Open triangles: not thawed by the "
    "last record, a lower bound."
)

THAW_CURVES = (
    "Training error against iteration for different weight decays, learning rates and warm-ups, "
    "of the networks with most such arms. Lines are means over seeds, bands reach from the "
    "smallest to the largest seed; the triangle marks the median thaw of the slowest frozen layer, "
    "where all were seen to thaw."
)

SIGNAL_GRADIENTS = (
    "Networks with batch normalisation and ReLU at initialisation. (a, b) Norm of the loss "
    "gradient with respect to the output z of every 3×3 layer before normalisation, relative to "
    "the last one, against the number of layers between; the last point is the stem. In residual "
    "networks the two layers of a block differ and are averaged. (c) Ratio, first over last. "
    "(d) Factor per layer toward the input in plain networks, from least-squares lines within "
    "stages, and in each stage alone. Dotted: theory. In a plain "
    "network the squared norm grows by π/(π−1) per layer, the norm by 1.211 (Yang et al. 2019, "
    "arXiv 1902.08129; wide, fully connected layers, large batch); grey: ±5 %, the margin within "
    "which this counts as reproduced. In a residual network no growth by a factor per layer: a "
    "line in proportion to depth is drawn through the mean of the points. Means and ranges over "
    "seeds."
)

VANISHING_GRADIENTS = (
    "Networks without normalisation at initialisation: the arm in which gradients do vanish. "
    "(a, b) Norm of the loss gradient with respect to the output z of the first 3×3 layer over "
    "that of the last one. (c) Factor per layer toward the input in plain networks, a point per "
    "seed, from least-squares lines within stages, at depth 56 or else the deepest. Theory: "
    "√(n·Var w·E[φ′²]) with n inputs per unit and slope φ′ of the nonlinearity, 1 in the linear "
    "regime (Glorot & Bengio 2010), E[φ′²] = 1/2 for ReLU (He et al. 2015, arXiv 1502.01852, "
    "section 2.2), at most 1/16 for the sigmoid; the number below each setting. Units at the "
    "border of a map have fewer inputs: on the maps of the digits, 8, 4 and 2 pixels wide, this "
    "multiplies by another 0.960, 0.873 and 0.667 per layer (largest eigenvalue of the 3×3 mean "
    "with zeros around). The dotted horizontal line is the smallest normal float32 number; the "
    "gradients were rescaled between blocks."
)

BRANCH_VARIANCE = (
    "Variance of the residual branch over that of the shortcut at the addition of every block, "
    "over images and pixels, mean over channels, of residual networks with batch normalisation at "
    "initialisation. De & Smith 2020 (arXiv 2002.10444): 1/l for block l of a pre-activated "
    "network, because every branch adds the same variance to the shortcut. Dotted: the same for "
    "this network, whose shortcut starts from a rectified stem, 1/(l − 1/2), and whose option A "
    "appends zero channels where a stage begins. In the original block order ReLU follows the "
    "addition. Geometric means over seeds, bands from smallest to largest."
)

SIGNAL_PROPAGATION_PLOT = (
    "Squared channel mean and channel variance over images and pixels at the output of every "
    "block, mean over channels, after Brock et al. 2021 (arXiv 2101.08692): with batch "
    "normalisation they grow linearly within a stage and are reset where a stage begins, without "
    "exponentially. Deepest residual networks at initialisation. Dotted: theory for pre-activated "
    "blocks and wide layers. Means over seeds, geometric without normalisation, bands from "
    "smallest to largest."
)

SHATTERED_GRADIENTS = (
    "Autocorrelation of the gradient of the first logit with respect to the image, at equally "
    "spaced points on a line between two images, of networks with batch normalisation at "
    "initialisation (Balduzzi et al. 2017, arXiv 1702.08591): by lag, and against depth for "
    "neighbouring points and for the largest lag. For the gradients at two inputs far apart they "
    "derive correlations of 1/2^L in plain networks and 1/(β√L) in residual ones with batch "
    "normalisation; dotted, with β = 1, where L is taken as the depth. Means over seeds, bands and "
    "bars from smallest to largest."
)

PATH_LENGTHS = (
    "Gradient that comes back to the first block along paths that take k residual branches and "
    "all other shortcuts, mean over random paths of that length, of a residual network with batch "
    "normalisation at initialisation (Veit et al. 2016, arXiv 1605.06431, who measured a trained "
    "one). (a) Of one path, relative to that of shortcuts alone, with the exponential fitted to "
    "k ≥ 1 (dotted). (b) Times the number of paths of the length, C(B, k), as a share of the "
    "total; dashed: share of the paths; shaded, at 110 layers: the lengths that carry the "
    "gradient in the source. Bands from the smallest to the largest seed."
)

NORM_PRESERVATION = (
    "Norm of the loss gradient at the input of a block over that at its output, of residual "
    "networks with batch normalisation at initialisation, blocks that change the shape left out. "
    "(a) By block. (b) Mean of |ln ratio| over the blocks against depth, with the power of depth "
    "fitted to it (dotted). Zaeemzadeh et al. 2018 (arXiv 1805.07477): the more blocks, the nearer "
    "the ratio is to 1. Geometric means over seeds, bands and bars from smallest to largest."
)
