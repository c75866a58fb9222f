"""Telephone numbers: international, North American, Chinese, and European with a trunk zero.

Precision comes first, since digits in groups are mostly dates, versions, prices and identifiers. A
form is accepted on its own when few other things look like it, and otherwise only behind a word
that announces a telephone number, in one of many languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from filters.pii_patterns import Found

# ITU-T E.164 country codes in use.
_COUNTRY_CODES = frozenset(
    (
        "1 7 20 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 "
        "235 236 237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 "
        "257 258 260 261 262 263 264 265 266 267 268 269 27 290 291 297 298 299 30 31 32 33 34 "
        "350 351 352 353 354 355 356 357 358 359 36 370 371 372 373 374 375 376 377 378 380 381 "
        "382 383 385 386 387 389 39 40 41 420 421 423 43 44 45 46 47 48 49 500 501 502 503 504 "
        "505 506 507 508 509 51 52 53 54 55 56 57 58 590 591 592 593 594 595 596 597 598 599 60 "
        "61 62 63 64 65 66 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 "
        "689 690 691 692 7 800 808 81 82 84 850 852 853 855 856 86 870 878 880 881 882 883 886 "
        "888 90 91 92 93 94 95 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 "
        "977 979 98 992 993 994 995 996 998"
    ).split()
)

_CONTEXT = re.compile(
    r"(?<![A-Za-z<])(?:tel|tels|phone|phones|telephone|telephones|telefon|telefono|telefone|"
    r"telefoon|teléfonos?|téléphone|tél|tlf|tfno|telef|ph|fax|faxes|telefax|télécopie|mobile|mob|"
    r"mobil|móvil|cell|cellular|cellulare|celular|handy|gsm|call|calling|hotline|helpline|"
    r"whatsapp|sms|pager|voice|puhelin|puh|telefoonnummer|rufnummer|komórka|"
    r"telefonnummer|thoại|telepon)(?![A-Za-z])"
    r"|тел|факс|моб|звон|τηλ|电话|電話|手机|手機|传真|傳真|联系|聯繫|热线|熱線|座机|携帯|전화|휴대|팩스|"
    r"هاتف|טלפון|फ़ोन|फोन|โทร|☎|☏|📞|📱",
    re.I,
)
_CONTEXT_REACH = 30  # characters before a number in groups
_CONTEXT_REACH_PLAIN = 14  # before digits without a separator
# Announces an identifier rather than a telephone number, directly before it.
_IDENTIFIER = re.compile(
    r"(?:\b(?:isbn|issn|ismn|doi|ean|asin|oclc|lccn|pmid|id|ids|version|serial|order|invoice|uuid|"
    r"isbn-1[03]|rfc|cve|bug|pp?|pages|oid|msgid|message-id)[\s:.#=(]{0,4})$",
    re.I | re.A,
)
# Announces it from behind.
_CONTEXT_AFTER = re.compile(
    r"[ ,(\[-]{1,3}(?:office|fax|mobile|mob|cell|desk|work|home|tel|phone|voice)(?![A-Za-z])", re.I
)
_HAN = re.compile("[\u3400-\u9fff]")
_HAN_REACH = 16  # characters to both sides

# Never part of a longer number, word, path, amount or decimal.
_LEFT = r"(?<![A-Za-z0-9_#$€£¥=+@\\-])(?<![0-9][./:,*^])(?<![./:]/)(?<![A-Za-z]/)"
_RIGHT = (
    r"(?!(?:[ ]?(?:x|ext\.?|extension|доб\.?|转|分机)[ ]?[0-9])?[A-Za-z_%°]"
    r"|[0-9]|[./:*,=^@–][0-9A-Za-z]|-(?![A-Z][a-z]{2})[0-9A-Za-z])"
)
_EXTENSION = r"(?:,?[ ]?(?:x|ext\.?|extension|доб\.?|转|分机|Durchwahl)[ ]?[0-9]{1,6})?"

_INTERNATIONAL = re.compile(
    r"(?<![A-Za-z0-9+_])(\+[1-9](?:[ \u00a0./()\u2011-]{0,3}[0-9]){6,14})" + _EXTENSION + _RIGHT
)
_ZERO_ZERO = re.compile(
    _LEFT
    + r"(00[1-9][0-9]{0,2}[ \u00a0./()-]{1,3}[0-9](?:[ \u00a0./()-]{0,3}[0-9]){6,12})"
    + _RIGHT
)
_NORTH_AMERICAN = re.compile(
    _LEFT
    + r"((?:1[ .-])?(?:\([2-9][0-9]{2}\)[ -]{0,2}[0-9]{3}[ .-]"
    + r"|([2-9][0-9]{2})([.-])[2-9][0-9]{2}\3|[2-9][0-9]{2}/[ ]?[2-9][0-9]{2}-)[0-9]{4}"
    + _EXTENSION
    + ")"
    + _RIGHT
)
_NORTH_AMERICAN_WEAK = re.compile(
    _LEFT + r"((?:1[ .-])?[2-9][0-9]{2}[ .-]?[0-9]{3}[ .-]?[0-9]{4}" + _EXTENSION + ")" + _RIGHT
)
_CHINESE_MOBILE = re.compile(
    _LEFT
    + r"(1(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])"
    + r"(?:[0-9]{8}|([ -])[0-9]{4}\2[0-9]{4}))"
    + _RIGHT
)
_CHINESE_LANDLINE = re.compile(
    _LEFT
    + r"((?:0(?:10|2[0-57-9]|[3-9][0-9]{2})[-\u2010-\u2015][2-9][0-9]{6,7}"
    + r"|\(0(?:10|2[0-57-9]|[3-9][0-9]{2})\)[ ]?[2-9][0-9]{6,7})(?:-[0-9]{1,5})?)"
    + _RIGHT
)
# Five pairs, as in France.
_PAIRS = re.compile(
    _LEFT
    + r"(?<![0-9A-Fa-f]{2}[ .-])(0[1-9]([ .-])[0-9]{2}(?:\2[0-9]{2}){3})(?![ .-][0-9A-Fa-f]{2})"
    + _RIGHT
)
# Area code, a clear separator, and the subscriber's number alone or in groups.
_TRUNK = re.compile(
    _LEFT
    + r"((?:\(0[1-9][0-9]{0,4}\)[ ]?|0[1-9][0-9]{0,4}(?:/|-| / | - | – ))"
    + r"(?:[0-9]{5,9}|[0-9]{2,4}(?:[ ][0-9]{2,4}){1,3}|[0-9]{3,4}-[0-9]{2,4}))"
    + _RIGHT
)
_TRUNK_WEAK = re.compile(
    _LEFT + r"(0[1-9](?:[0-9]{8,10}|[0-9]{0,4}(?:[ \u00a0/-][0-9]{2,7}){1,4}))" + _RIGHT
)
# Two to five groups of any plan, directly behind a word that announces them.
_ANNOUNCED = re.compile(
    _LEFT + r"(\(?[1-9][0-9]{1,3}\)?(?:[ \u00a0-]{1,2}[0-9]{2,5}){1,4})" + _RIGHT
)
_DIRECTLY = re.compile(
    r"(?<![A-Za-z<])(?:tel|phone|telephone|telefon|telefono|telefone|telefoon|teléfono|téléphone|"
    r"tél|tlf|tfno|ph|fax|telefax|mobile|mob|mobil|móvil|cell|celular|cellulare|handy|gsm|desk|call|"
    r"puhelin|puh|komórka|kom|whatsapp)(?:[ ](?:us|me|at|on|no|number|nr))?[.:]{0,2}[ ]{0,3}$"
    r"|(?:тел|факс|моб|τηλ|电话|電話|手机|手機|传真|傳真|전화|☎|📞)[.:：]{0,2}[ ]{0,3}$",
    re.I,
)
_PAIR = re.compile("[0-9]{2}")
# Digits with small gaps: where any of the forms can be.
_CLUSTER = re.compile("[0-9](?:[ \u00a0./()\u2010-\u2015-]{0,3}[0-9]){6,}")
_BEHIND = 32  # characters of a match and its look-ahead behind the cluster
_DATE = re.compile(r"0[1-9][-./ ][0-3][0-9][-./ ](?:19|20)?[0-9]{2}(?![0-9])")


def _digits(value: str) -> str:
    return re.sub("[^0-9]", "", value)


def country_code(digits: str) -> str | None:
    """The E.164 country code that an international number starts with; codes are prefix-free."""
    return next((digits[:n] for n in (1, 2, 3) if digits[:n] in _COUNTRY_CODES), None)


def _international(number: str) -> bool:
    """E.164: a country code in use and 8 to 15 digits; North American numbers have their plan."""
    digits = _digits(number)
    code = country_code(digits)
    if code is None or not number.startswith("+" + code):  # "+4 4294967295" is not Britain
        return False
    if not 8 <= len(digits) <= 15 or len(set(digits)) < 3:
        return False
    if code == "1":
        grouped = not number[1:].isdigit()
        return len(digits) == 11 and digits[1] >= "2" and (grouped or digits[4] >= "2")
    if code == "86":
        return 11 <= len(digits) <= 14
    # A signed integer has no separators; numbers of nine digits and less are written in groups.
    return len(digits) >= 10 or not number[1:].isdigit()


def _balanced(number: str) -> bool:
    return number.count("(") == number.count(")") <= 1


def _announced(text: str, match: re.Match[str]) -> bool:
    """Whether a word for telephone or fax stands near before the number or right behind it."""
    if _CONTEXT_AFTER.match(text, match.end()):
        return True
    start = match.start()
    reach = _CONTEXT_REACH_PLAIN if match[0].isdigit() else _CONTEXT_REACH
    return _CONTEXT.search(text, max(0, start - reach), start) is not None


def _no_identifier(text: str, match: re.Match[str]) -> bool:
    return not _IDENTIFIER.search(text, max(0, match.start() - 20), match.start())


def _accept_international(text: str, match: re.Match[str]) -> bool:
    return _balanced(match[1]) and _international(match[1])


def _accept_zero_zero(text: str, match: re.Match[str]) -> bool:
    number = "+" + match[1][2:]
    if not _balanced(number) or not _international(number):
        return False
    return _announced(text, match) or number.startswith("+86")


def _accept_chinese_mobile(text: str, match: re.Match[str]) -> bool:
    near = text[max(0, match.start() - _HAN_REACH) : match.end() + _HAN_REACH]
    grouped = match[2] is not None
    known = grouped or _HAN.search(near) is not None or _announced(text, match)
    return known and _no_identifier(text, match)


def _accept_pairs(text: str, match: re.Match[str]) -> bool:
    pairs = [int(pair) for pair in _PAIR.findall(match[1])]
    counting = {b - a for a, b in zip(pairs, pairs[1:], strict=False)} <= {0, 1}
    timestamp = pairs[0] < 32 and pairs[1] < 13 and pairs[3] < 24 and pairs[4] < 60
    return not counting and (not timestamp or _announced(text, match))


def _trunk_length(match: re.Match[str]) -> bool:
    return 9 <= len(_digits(match[1])) <= 12 and not _DATE.match(match[1])


def _accept_trunk(text: str, match: re.Match[str]) -> bool:
    return _trunk_length(match) and _no_identifier(text, match)


def _accept_trunk_announced(text: str, match: re.Match[str]) -> bool:
    return _trunk_length(match) and _announced(text, match)


def _accept_announced(text: str, match: re.Match[str]) -> bool:
    if not 7 <= len(_digits(match[1])) <= 13 or not _balanced(match[1]):
        return False
    start = match.start()
    return _DIRECTLY.search(text, max(0, start - 24), start) is not None


# Rule, what the digits or signs must contain, pattern, and what else must hold.
_FORMS = (
    ("international", "+", _INTERNATIONAL, _accept_international),
    ("international-00", "00", _ZERO_ZERO, _accept_zero_zero),
    ("north-american", "", _NORTH_AMERICAN, _no_identifier),
    ("north-american-announced", "", _NORTH_AMERICAN_WEAK, _announced),
    ("chinese-mobile", "1", _CHINESE_MOBILE, _accept_chinese_mobile),
    ("chinese-landline", "0", _CHINESE_LANDLINE, _no_identifier),
    ("pairs", "0", _PAIRS, _accept_pairs),
    ("trunk", "0", _TRUNK, _accept_trunk),
    ("trunk-announced", "0", _TRUNK_WEAK, _accept_trunk_announced),
    ("other-announced", "", _ANNOUNCED, _accept_announced),
)


def find_phones(text: str) -> Iterator[Found]:
    """Telephone numbers; the rule names the form that was matched."""
    for cluster in _CLUSTER.finditer(text):
        # "+" and "(" before the digits belong to a number, an extension comes behind them. What
        # starts behind the cluster may be cut off by `last` and has a cluster of its own.
        first, last = max(0, cluster.start() - 2), cluster.end() + _BEHIND
        digits = text[first : cluster.end()]
        for rule, needed, pattern, accept in _FORMS:
            if needed not in digits:
                continue
            for match in pattern.finditer(text, first, last):
                if match.start() < cluster.end() and accept(text, match):
                    yield match.start(), match.end(), rule
