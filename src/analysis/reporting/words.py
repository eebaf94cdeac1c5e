"""The YAML files of words that readers see, one folder a language."""

from functools import cache
from pathlib import Path

import yaml
from babel import Locale, UnknownLocaleError

from analysis.errors import RapportError

FOLDER = Path(__file__).parent / "sentences"


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, where YAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise RapportError(f"line {line}: key '{key_node.value}' is given twice; keep one of them")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def parse_locale(locale: str) -> Locale:
    """Read a locale name such as ``en``, ``en_GB`` or ``zh-CN``; ValueError when babel does not know it."""
    try:
        return Locale.parse(locale.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        raise RapportError(f"unknown locale '{locale}'; use a name such as en, en_GB or zh_CN") from error


@cache
def language(locale: str) -> str:
    """The language that readers get: the nearest folder of words to a locale, English when there is none."""
    parsed = parse_locale(locale)
    for name in (str(parsed), parsed.language):
        if (FOLDER / name).is_dir():
            return name
    return "en"


def words_path(locale: str, name: str) -> Path:
    """Where the words called ``name`` are for a locale; English stands in for a file not yet translated."""
    path = FOLDER / language(locale) / f"{name}.yaml"
    return path if path.exists() else FOLDER / "en" / f"{name}.yaml"


@cache
def words(locale: str, name: str) -> dict[str, object]:
    """The words of one file by key; ValueError names the file when it is missing or not a flat mapping."""
    path = words_path(locale, name)
    shown = f"sentences/{path.parent.name}/{path.name}"
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise RapportError(f"{shown} does not exist; add it with one template a key") from None
    except (yaml.YAMLError, ValueError) as error:
        raise RapportError(f"{shown}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise RapportError(f"{shown}: expected `key: template` lines, found {type(loaded).__name__}")
    return loaded
