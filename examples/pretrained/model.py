"""EfficientNet-Lite0 of the package ``efficientnet_lite_pytorch``, with a last layer for the classes of the data."""

from efficientnet_lite_pytorch import EfficientNet


def efficientnet_lite0(num_classes: int) -> EfficientNet:
    """Return the network with random weights, for colour images of any size.

    EMOMC fills in ``num_classes``, because the function names it, and loads the weights of ``--weights`` by name: all
    but those of the last layer, which has 1,000 classes in ImageNet.

    Args:
        num_classes: classes of the data.
    """
    return EfficientNet.from_name(
        "efficientnet-lite0",
        num_classes=num_classes,
        # Pads by the size of the map that comes, not by that of an image of 224x224.
        image_size=None,
        # Statistics of BatchNorm that follow the new images within some ten batches instead of some hundred.
        batch_norm_momentum=0.9,
    )
