"""Special and added tokens: reading them from the JSON files of a model folder, and adding them to a tokenizer.

The tokenizer searches the original text for these tokens, before it replaces any character of the text.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from tokenizers import AddedToken, Tokenizer

from mtbert import json_files
from mtbert.data.vocab_files import FETCH, TOKENIZER_CONFIG, built, read_options
from mtbert.messages import shown

MOST_ADDED, _LONGEST_ADDED = 10_000, 1000  # tokens beside the vocabulary, and characters of such a token


def _as_mapping(value: Any) -> Any:
    return {"content": value} if isinstance(value, str) else value


class _Added(BaseModel):
    """An added token, as JSON files of transformers describe it: a text alone, or a text with flags."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    content: str = Field(min_length=1, max_length=_LONGEST_ADDED)
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = True


_Token = Annotated[_Added, BeforeValidator(_as_mapping)]
_A_TOKEN, _TOKENS = "a token", f"a list of at most {MOST_ADDED:,} tokens"


class Roles(BaseModel):
    """The content of ``special_tokens_map.json``: a token for each role, and lists of further special tokens."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    cls_token: _Token | None = Field(default=None, description=_A_TOKEN)
    sep_token: _Token | None = Field(default=None, description=_A_TOKEN)
    pad_token: _Token | None = Field(default=None, description=_A_TOKEN)
    mask_token: _Token | None = Field(default=None, description=_A_TOKEN)
    additional_special_tokens: list[_Token] | None = Field(default=None, description=_TOKENS, max_length=MOST_ADDED)
    extra_special_tokens: list[_Token] | None = Field(default=None, description=_TOKENS, max_length=MOST_ADDED)


class TokenOptions(Roles):
    """The keys of ``tokenizer_config.json`` about tokens."""

    added_tokens_decoder: dict[Annotated[str, Field(pattern="^[0-9]{1,8}$")], _Token] | None = Field(
        default=None, description="a mapping of ids to tokens", max_length=MOST_ADDED
    )


@dataclass(frozen=True)
class FolderTokens:
    """The special and added tokens in the JSON files of a folder.

    Attributes:
        roles: A dict from a key in the files, such as ``cls_token``, to the special token with this role.
        others: Special tokens without a role.
        numbered: A pair (id, token) for each token that has an id in the JSON files, in order of ids.
        file: The path of the JSON file with these ids.
    """

    roles: Mapping[str, _Added]
    others: list[_Added]
    numbered: list[tuple[int, _Added]]
    file: Path


def folder_tokens(folder: Path, options: TokenOptions, names: Mapping[str, str]) -> FolderTokens:
    """Returns the special and added tokens in the JSON files of a folder.

    As in transformers, ``special_tokens_map.json`` and ``added_tokens.json`` count only if ``tokenizer_config.json``
    contains no ids of added tokens.
    """
    decoder = options.added_tokens_decoder
    named = [options] if decoder is not None else [options, read_options(folder / "special_tokens_map.json", Roles)]
    roles = {role: _Added(content=name) for role, name in names.items()}
    others: list[_Added] = []
    for each in named:
        roles |= {role: token for role in roles if (token := getattr(each, role)) is not None}
        others += [*(each.additional_special_tokens or ()), *(each.extra_special_tokens or ())]
    if decoder is not None:
        numbered = sorted(((int(number), token) for number, token in decoder.items()), key=itemgetter(0))
        return FolderTokens(roles, others, numbered, folder / TOKENIZER_CONFIG)
    file, special = folder / "added_tokens.json", {token.content for token in (*roles.values(), *others)}
    numbers = sorted((number, content) for content, number in _numbers(file).items())
    return FolderTokens(
        roles, others, [(n, _Added(content=content, special=content in special)) for n, content in numbers], file
    )


def _numbers(file: Path) -> dict[str, int]:
    """Returns the content of a JSON file: a dict from token to id. If ``file`` does not exist, the dict is empty."""
    value = json_files.read_json(file, FETCH) if os.path.lexists(file) else {}
    if (
        not isinstance(value, dict)
        or len(value) > MOST_ADDED
        or not all(type(number) is int and 0 <= number < 2**24 for number in value.values())
        or not all(0 < len(content) <= _LONGEST_ADDED for content in value)
    ):
        raise ValueError(f"{file}: must map at most {MOST_ADDED:,} tokens to their ids, found {shown(value)}. {FETCH}")
    return value


def add_tokens(file: Path, tokenizer: Tokenizer, special: list[str], given: FolderTokens) -> None:
    """Adds the tokens in ``special`` and all tokens in ``given`` to a tokenizer.

    A token that the tokenizer lacks gets the next free id. ``file`` is the file of the vocabulary, for messages.

    Raises:
        ValueError: If neither the vocabulary nor ``given`` has an id for the token that begins or ends a text, or if a
            token does not get the id that it has in ``given``.
    """
    for role in ("cls_token", "sep_token"):
        content = given.roles[role].content
        if tokenizer.token_to_id(content) is None and all(token.content != content for _, token in given.numbered):
            raise ValueError(f"{file}: has no {shown(content)} among {tokenizer.get_vocab_size():,} pieces. {FETCH}")
    tokens = {content: _Added(content=content) for content in special}
    for token in (*(token for _, token in given.numbered), *given.roles.values(), *given.others):
        tokens[token.content] = token
    added = [
        AddedToken(
            token.content,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=False,
            special=token.special,
        )
        for token in tokens.values()
    ]
    built(lambda: tokenizer.add_tokens(added), f"{given.file}: has tokens that cannot be added")
    for number, token in given.numbered:
        if (found := tokenizer.token_to_id(token.content)) != number:
            said = f"{shown(token.content)} must have the id {found} with this model, found {number}"
            raise ValueError(f"{given.file}: {said}. {FETCH}")
