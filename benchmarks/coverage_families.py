"""The networks of the coverage benchmark: one small member of each family, and what is left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIZE = 96
"""Side of the images in pixels, unless a network needs larger ones: most networks end in a map of 3 × 3."""


@dataclass(frozen=True)
class Network:
    """A network of timm's or of paddle.vision's.

    Attributes:
        member: its name there.
        size: side of its images in pixels.
        exporter: `torchscript` or `dynamo` (torch.onnx' two back ends), or `paddle` (paddle2onnx).
        options: keyword arguments of the function that makes it.
    """

    member: str
    size: int = SIZE
    exporter: str = "torchscript"
    options: Mapping[str, Any] = field(default_factory=dict)


_TIMM = {
    "ConvFormer": "convformer_s18",
    "ConvMixer": "convmixer_768_32",
    "ConvNeXt": "convnext_atto",
    "ConvNeXt, RMS norm": "convnext_zepto_rms",
    "ConvNeXt V2": "convnextv2_atto",
    "CS3-Darknet": "cs3darknet_focus_s",
    "CSPDarknet": "cspdarknet53",
    "CSPNeXt": "cspnext_tiny",
    "CSPResNet": "cspresnet50",
    "CSPResNeXt": "cspresnext50",
    "Darknet": "darknet53",
    "DenseNet": "densenet121",
    "DenseNet, anti-aliased": "densenetblur121d",
    "DLA": "dla34",
    "DPN": "dpn48b",
    "ECA-ResNet": "ecaresnet26t",
    "ECA-VoVNet": "ese_vovnet19b_dw",
    "EfficientNet": "efficientnet_b0",
    "EfficientNet, Edge TPU": "efficientnet_es",
    "EfficientNet, group norm": "efficientnet_b0_gn",
    "EfficientNet, TensorFlow's": "tf_efficientnet_b0",
    "EfficientNet Lite": "efficientnet_lite0",
    "EfficientNetV2": "tf_efficientnetv2_b0",
    "FasterNet": "fasternet_t0",
    "FastViT, convolutional": "fastvit_t8",
    "FBNet": "fbnetc_100",
    "FBNetV3": "fbnetv3_b",
    "FocalNet": "focalnet_tiny_srf",
    "GCResNet": "gcresnext26ts",
    "GENet": "gernet_s",
    "GhostNet": "ghostnet_050",
    "GhostNetV2": "ghostnetv2_100",
    "GhostNetV3": "ghostnetv3_050",
    "HardCoRe-NAS": "hardcorenas_a",
    "HGNet": "hgnet_tiny",
    "HGNetV2": "hgnetv2_b0",
    "HRNet": "hrnet_w18_small",
    "InceptionNeXt": "inception_next_atto",
    "Inception-ResNet-v2": "inception_resnet_v2",
    "Inception v3": "inception_v3",
    "Inception v4": "inception_v4",
    "LCNet": "lcnet_035",
    "LCNetV2": "lcnetv2_small",
    "MambaOut": "mambaout_femto",
    "MixNet": "mixnet_s",
    "MNASNet": "mnasnet_small",
    "MobileNet, Edge TPU": "mobilenet_edgetpu_v2_xs",
    "MobileNetV1": "mobilenetv1_100",
    "MobileNetV2": "mobilenetv2_035",
    "MobileNetV3": "mobilenetv3_small_050",
    "MobileNetV4": "mobilenetv4_conv_small_035",
    "MobileOne": "mobileone_s0",
    "NASNet": "nasnetalarge",
    "NFNet": "nfnet_l0",
    "NFNet, DeepMind's": "dm_nfnet_f0",
    "NF-RegNet": "nf_regnet_b0",
    "NF-ResNet": "nf_resnet26",
    "PNASNet": "pnasnet5large",
    "PoolFormer": "poolformer_s12",
    "PoolFormerV2": "poolformerv2_s12",
    "RDNet": "rdnet_tiny",
    "RegNetV": "regnetv_040",
    "RegNetX": "regnetx_002",
    "RegNetY": "regnety_002",
    "RegNetZ": "regnetz_005",
    "RepGhostNet": "repghostnet_050",
    "RepVGG": "repvgg_a0",
    "RepViT": "repvit_m0_9",
    "Res2Net": "res2net50_14w_8s",
    "ResNeSt": "resnest14d",
    "ResNet": "resnet18",
    "ResNet, anti-aliased": "resnetblur18",
    "ResNet, CLIP's": "resnet50_clip_gap",
    "ResNet, group norm": "resnet50_gn",
    "ResNet-D": "resnet26d",
    "ResNet-RS": "resnetrs50",
    "ResNet-TS": "resnet32ts",
    "ResNetV2": "resnetv2_18",
    "ResNetV2, BiT": "resnetv2_50x1_bit",
    "ResNeXt": "resnext50_32x4d",
    "ReXNet": "rexnet_100",
    "SelecSLS": "selecsls42",
    "SEMNASNet": "semnasnet_050",
    "SE-ResNet": "legacy_seresnet18",
    "SE-ResNeXt": "seresnext26t_32x4d",
    "SK-ResNet": "skresnet18",
    "SPNASNet": "spnasnet_100",
    "StarNet": "starnet_s050",
    "TinyNet": "tinynet_e",
    "TResNet": "tresnet_m",
    "VGG": "vgg11_bn",
    "VoVNet": "vovnet39a",
    "Xception": "legacy_xception",
    "Xception, aligned": "xception41",
}
_SPECIAL = {
    # Their last map has a single pixel at 96 px.
    **{f: Network(_TIMM[f], 192) for f in ("Inception v3", "Inception v4", "Inception-ResNet-v2")},
    # Its two fully connected layers are 7 × 7 and 1 × 1 convolutions, made narrower here: 13 million weights instead of 119.
    "VGG": Network("vgg11_bn", 224, options={"mlp_ratio": 0.125}),
}
FAMILIES = {family: _SPECIAL.get(family, Network(member)) for family, member in _TIMM.items()}
"""timm's convolutional families, each with a small member; a family is what has its own paper, or operators that its relatives lack."""

DYNAMO = {
    f"{family} (dynamo)": Network(FAMILIES[family].member, FAMILIES[family].size, "dynamo", FAMILIES[family].options)
    for family in ("ResNet", "EfficientNet", "MobileNetV3", "ConvNeXt", "DenseNet", "RegNetY")
}
"""The same networks through the other back end of torch.onnx."""

PADDLE = {
    f"{family} (Paddle)": Network(member, size, "paddle", options)
    for family, member, size, options in (
        ("AlexNet", "alexnet", 224, {}),
        ("DenseNet", "densenet121", SIZE, {}),
        ("GoogLeNet", "googlenet", SIZE, {}),
        ("Inception v3", "inception_v3", 192, {}),
        ("MobileNetV1", "mobilenet_v1", SIZE, {"scale": 0.25}),
        ("MobileNetV2", "mobilenet_v2", SIZE, {"scale": 0.25}),
        ("MobileNetV3", "mobilenet_v3_small", SIZE, {"scale": 0.5}),
        ("ResNeXt", "resnext50_32x4d", SIZE, {}),
        ("ShuffleNetV2", "shufflenet_v2_x0_25", SIZE, {}),
        ("SqueezeNet", "squeezenet1_1", SIZE, {}),
        ("VGG", "vgg11", 224, {}),
    )
}
"""paddle.vision's networks without their last layer, through paddle2onnx."""

NETWORKS = FAMILIES | DYNAMO | PADDLE

EXCLUDED = {
    "self-attention": "beit botnet cait caformer coat coatnet convit cpubone crossvit csatv2 davit deepseek_vit deit edgenext "
    "efficientformer efficientvit eva fastvit_ma36 gcvit halonet hiera iformer lambda_resnet levit lowformer maxvit "
    "mobilenetv4_hybrid mobilenetv5 mobilevit mvitv2 nest nextvit pit pvt_v2 qwen3_vit resnet50_clip shvit swiftformer swin "
    "tiny_vit tnt twins visformer vision_transformer vitamin volo xcit",
    "no convolutions beyond patches": "mlp_mixer gmlp resmlp",
    "recurrent or state-space layers": "sequencer efficientvim",
    "kernels that depend on the image: torch.onnx cannot export them with a free batch": "efficientnet_cc",
}
"""Why timm's other networks are not here, by what they consist of."""
