"""Linear patterns and validators of personal data; plain functions on text.

All patterns have bounded repetitions and start only where the character before allows it, so that
matching takes time linear in the text. ASCII classes are used throughout: Python's `\\b` and `\\w`
count Han characters as word characters and would miss every number that touches Chinese text.

Each `find_*` yields (start, end, rule) over characters of the given text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from filters.pii_domains import TOP_LEVEL_DOMAINS
from filters.pii_scan import IBAN_LENGTHS

Found = tuple[int, int, str]

# --- e-mail ---------------------------------------------------------------------------------------

# Latin, Greek and Cyrillic letters belong to an address; scripts that are written without spaces
# (Han, Kana) or that glue particles on (Hangul, Hebrew, Arabic) end it.
_LETTER = "A-Za-z\u00c0-\u024f\u0370-\u0373\u0376-\u03ff\u0400-\u0481\u048a-\u052f"
_LABEL = rf"[{_LETTER}0-9_](?:[{_LETTER}0-9_-]{{0,61}}[{_LETTER}0-9_])?"
_EMAIL = re.compile(
    rf"(?<![{_LETTER}0-9_%+&])([{_LETTER}0-9_%+&][{_LETTER}0-9._%+&~='-]{{0,127}})"
    rf"@({_LABEL}(?:\.{_LABEL}){{1,10}})"
)


def find_emails(text: str) -> Iterator[Found]:
    """Addresses whose domain ends in a top-level domain of the DNS root."""
    for match in _EMAIL.finditer(text):
        # Text may go on without a space (a.org.Please, a.org-list, a.orgWrite): the longest domain
        # that ends in a top-level domain counts.
        labels = match[2].split(".")
        while len(labels) > 1:
            last = labels.pop()
            lower = last[: len(last) - len(last.lstrip("abcdefghijklmnopqrstuvwxyz"))]
            for head in (last, last.partition("-")[0], lower):
                if head.lower() in TOP_LEVEL_DOMAINS or head.lower().startswith("xn--"):
                    domain = ".".join([*labels, head])
                    yield match.start(1), match.start(2) + len(domain), "email"
                    labels.clear()
                    break


# --- IP addresses ---------------------------------------------------------------------------------

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![A-Za-z0-9_.])({_OCTET}(?:\.{_OCTET}){{3}})(?![A-Za-z0-9_]|\.[0-9])")
_IPV6 = re.compile(
    r"(?<![A-Za-z0-9_:.])([23][0-9A-Fa-f]{3}:[0-9A-Fa-f:.]{1,40})(?![A-Za-z0-9_]|:[0-9A-Fa-f])"
)
_VERSION = re.compile(
    r"(?:\b(?:v|ver|versions?|versión|versão|versione|release|rel|kernel|section|sections|chapter|"
    r"§|rfc|revision|build|patch|firmware|oid)[\s:.=(]{0,3}|版本?|第)$",
    re.I | re.A,
)

# IANA special-purpose registries (RFC 6890 and updates): not reachable as a public address, or not
# one machine's. Written out, since ipaddress.is_global differs between Python versions.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(n)
    for n in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_NOT_PUBLIC_6 = tuple(IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "3fff::/20"))


def _prefixes(
    networks: Iterable[IPv4Network | IPv6Network],
) -> tuple[tuple[int, int], ...]:
    """(bits behind the prefix, prefix) of each network."""
    return tuple(
        (n.max_prefixlen - n.prefixlen, int(n.network_address) >> (n.max_prefixlen - n.prefixlen))
        for n in networks
    )


_PREFIXES_4 = _prefixes(_NOT_PUBLIC_4)
_PREFIXES_6 = _prefixes(_NOT_PUBLIC_6)
_SMALL_OCTET = 32
_TITLE = re.compile(r"\.?[ \t]+[^\W\d_]")
_LINE_START = re.compile(r"(?:^|\n)[ \t]*$")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it can identify a machine on the internet: private, loopback, link-local,
    documentation, multicast and reserved ranges are not personal data and stay in the text."""
    value = int(address)
    if isinstance(address, IPv4Address):
        return not any(value >> shift == prefix for shift, prefix in _PREFIXES_4)
    global_unicast = value >> 125 == 1  # 2000::/3
    return global_unicast and not any(value >> shift == prefix for shift, prefix in _PREFIXES_6)


def find_ips(text: str) -> Iterator[Found]:
    """Public IPv4 and IPv6 addresses; not version, section or object numbers."""
    for match in _IPV4.finditer(text):
        # Section and version numbers are small; an address with four such octets is one in 4,000.
        octets = [int(octet) for octet in match[1].split(".")]
        if max(octets) < _SMALL_OCTET:
            continue
        if _LINE_START.search(text, max(0, match.start() - 16), match.start()):
            if _TITLE.match(text, match.end()) and (
                max(octets[:3]) < _SMALL_OCTET or text.startswith(".", match.end())
            ):
                continue  # the number of a heading
        if _VERSION.search(text, max(0, match.start() - 16), match.start()):
            continue
        if (
            text[max(0, match.start() - 1) : match.start()] == "-"
            and text[max(0, match.start() - 2) : match.start() - 1].isalpha()
        ):
            continue  # linux-2.6.39.4
        if is_public(IPv4Address(match[1])):
            yield match.start(1), match.end(1), "ipv4"
    for match in _IPV6.finditer(text):
        value = match[1].rstrip(".") if match[1].endswith("::") else match[1].rstrip(".:")
        try:
            address = IPv6Address(value)
        except AddressValueError:
            continue
        if is_public(address):
            yield match.start(1), match.start(1) + len(value), "ipv6"


# --- payment cards --------------------------------------------------------------------------------

# Digits alone, or in groups as printed on cards: 4-4-4-4(-1..3), 4-6-5, 4-6-4, 6-13.
_CARD = re.compile(
    r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9][.,:/-])(?<![#$€£=+_])(?<![0-9A-F]{4}[ -])"
    r"(1800[0-9]{11}|[2-6](?:[0-9]{12,18}"
    r"|[0-9]{3}([ -])[0-9]{4}\2[0-9]{4}\2[0-9]{4}(?:\2?[0-9]{1,3})?"
    r"|[0-9]{3}([ -])[0-9]{6}\3[0-9]{4,5}|[0-9]{5}[ -][0-9]{13}))"
    r"(?![A-Za-z0-9_]|[.,:/-][0-9]|[ -][0-9A-F]{4}(?![0-9A-Za-z/]))"
)
# First digits and lengths in use (ISO/IEC 7812 issuer ranges as published by the networks).
_ISSUERS: tuple[tuple[int, int, int, frozenset[int]], ...] = tuple(
    (low, high, len(str(low)), frozenset(lengths))
    for low, high, lengths in (
        (4, 4, (13, 16, 19)),  # Visa
        (51, 55, (16,)),  # Mastercard
        (2221, 2720, (16,)),
        (34, 34, (15,)),  # American Express
        (37, 37, (15,)),
        (300, 305, (14, 16)),  # Diners Club
        (36, 36, (14, 16)),
        (38, 39, (14, 16)),
        (35, 35, (16,)),  # JCB
        (1800, 1800, (15,)),
        (2131, 2131, (15,)),
        (6011, 6011, (16, 19)),  # Discover
        (644, 659, (16, 19)),
        (62, 62, (16, 17, 18, 19)),  # UnionPay
        (81, 82, (16,)),
        (2200, 2204, (16, 17, 18, 19)),  # Mir
        (50, 50, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
        (56, 58, (13, 14, 15, 16, 17, 18, 19)),
        (60, 61, (13, 14, 15, 16, 17, 18, 19)),  # Maestro, RuPay
        (63, 63, (13, 14, 15, 16, 17, 18, 19)),
        (66, 69, (13, 14, 15, 16, 17, 18, 19)),
    )
)


def luhn(digits: str) -> bool:
    """Check digit of ISO/IEC 7812-1."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if index % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Known issuer range with a length that it uses, Luhn digit, and not one digit repeated."""
    return (
        len(set(digits)) > 1
        and any(
            low <= int(digits[:width]) <= high and len(digits) in lengths
            for low, high, width, lengths in _ISSUERS
        )
        and luhn(digits)
    )


def find_cards(text: str) -> Iterator[Found]:
    """Payment card numbers with valid issuer, length and check digit."""
    for match in _CARD.finditer(text):
        value = match[1]
        while value:
            if is_card(re.sub("[ -]", "", value)):
                yield match.start(1), match.start(1) + len(value), "card"
                break
            # The last group may be something else behind the card.
            value = value[: max(value.rfind(" "), value.rfind("-"), 0)]
            if sum(c.isdigit() for c in value) < 13:
                break


# --- IBAN -----------------------------------------------------------------------------------------

# Looked at, not consumed: what is no IBAN after all must not hide one behind it.
_IBAN = re.compile(r"(?<![A-Za-z0-9_])(?=([A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}))")


def iban_remainder(iban: str) -> int:
    """ISO 13616 / ISO 7064 mod 97-10 of an IBAN without separators; valid if 1."""
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97


def find_ibans(text: str) -> Iterator[Found]:
    """IBANs with their country's length and valid check digits."""
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[1][:2])
        compact = re.sub("[ -]", "", match[1])
        if length is None or len(compact) < length or iban_remainder(compact[:length]) != 1:
            continue
        end, seen = match.start(1), 0
        while seen < length:
            seen += text[end] not in " -"
            end += 1
        if not re.match("[A-Za-z0-9_]", text[end : end + 1]):
            yield match.start(1), end, "iban"
