"""The recipes by name. A name is `<system>-<data>`; a system's bare name means its first data set."""

from importlib import import_module

from aigc_lib.training.recipe import Recipe

_WHERE = {
    "gan-digits": ("aigc_lib.training.recipes.gan", "DigitsGAN"),
    "gan-emoji": ("aigc_lib.training.recipes.gan", "EmojiGAN"),
    "vae-digits": ("aigc_lib.training.recipes.vae", "DigitsVAE"),
    "vae-emoji": ("aigc_lib.training.recipes.vae", "EmojiVAE"),
    "transformer-pronunciations": ("aigc_lib.training.recipes.transformer", "Pronunciations"),
    "transformer-zh-en": ("aigc_lib.training.recipes.transformer_zh_en", "ChineseEnglish"),
    "rnn-shakespeare": ("aigc_lib.training.recipes.rnn", "ShakespeareRNN"),
    "transformer-shakespeare": ("aigc_lib.training.recipes.transformer_lm", "ShakespeareTransformer"),
    "transformer-chorales": ("aigc_lib.training.recipes.transformer_music", "Chorales"),
    "transformer-tunes": ("aigc_lib.training.recipes.transformer_music", "Tunes"),
    "wavenet-notes": ("aigc_lib.training.recipes.wavenet_notes", "NotesWaveNet"),
    "wavenet-speech": ("aigc_lib.training.recipes.wavenet", "SpeechWaveNet"),
    "waveglow-speech": ("aigc_lib.training.recipes.waveglow", "SpeechWaveGlow"),
    "hifigan-speech": ("aigc_lib.training.recipes.hifigan", "SpeechHiFiGAN"),
    "flownet-objects": ("aigc_lib.training.recipes.flownet", "ObjectsFlowNet"),
    "stylegan-emoji": ("aigc_lib.training.recipes.stylegan", "EmojiStyleGAN"),
    "stylegan-avatars": ("aigc_lib.training.recipes.stylegan", "AvatarsStyleGAN"),
    "stylegan-avatars-64": ("aigc_lib.training.recipes.stylegan", "ChosenAvatarsStyleGAN"),
    "interpolation-film": ("aigc_lib.training.recipes.interpolation", "FilmInterpolation"),
    "enhancement-film": ("aigc_lib.training.recipes.enhancement", "FilmEnhancement"),
    "stylegan-effects": ("aigc_lib.training.recipes.stylegan_effects", "EffectsStyleGAN"),
    "flow-matching-digits": ("aigc_lib.training.recipes.flow_matching", "DigitsFlow"),
    "flow-matching-emoji": ("aigc_lib.training.recipes.flow_matching", "EmojiFlow"),
    "flow-matching-effects": ("aigc_lib.training.recipes.flow_matching", "EffectsFlow"),
    "classifier-digits": ("aigc_lib.training.recipes.classifier", "DigitsClassifier"),
    "classifier-effects": ("aigc_lib.training.recipes.classifier", "EffectsClassifier"),
}


def names() -> list[str]:
    """All recipes."""
    return list(_WHERE)


def full_name(name: str) -> str:
    """`gan` → `gan-digits`; a full name stays as it is.

    Raises:
        ValueError: no such recipe; the text lists them.
    """
    for each in _WHERE:
        if name in (each, each.split("-")[0]):
            return each
    raise ValueError(f"no recipe {name!r}; there are {', '.join(_WHERE)}")


def resolve(name: str) -> type[Recipe]:
    """The recipe class of a name.

    Raises:
        ValueError: as `full_name`.
    """
    module, attribute = _WHERE[full_name(name)]
    return getattr(import_module(module), attribute)
