"""Sizes, durations and decimals as Docker's users write and read them."""

from __future__ import annotations

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def significant(value: float, digits: int) -> str:
    """Format like C's %.{digits}g: 1.23, 12.3, 123, 1.2e+04."""
    return f"%.{digits}g" % value


def _scaled(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return significant(size, digits) + units[index]


def decimal_size(size_bytes: float, digits: int = 4) -> str:
    """Powers of 1000: 4.263MB, 12kB, 0B."""
    return _scaled(size_bytes, 1000.0, _DECIMAL, digits)


def binary_size(size_bytes: float, digits: int = 4) -> str:
    """Powers of 1024: 7.645GiB, 512KiB."""
    return _scaled(size_bytes, 1024.0, _BINARY, digits)


def parse_bytes(text: str) -> int:
    """Bytes of "512", "64m", "1.5GiB"; suffixes are powers of 1024. Raises ValueError."""
    number = text.rstrip("kKmMgGtTpPiIbB ")
    suffix = text[len(number) :].strip().lower()
    powers = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
    unit = suffix.removesuffix("b").removesuffix("i") if suffix != "b" else "b"
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"invalid size: '{text}'") from None
    if unit not in powers or not number or number.strip() != number or value != value:
        raise ValueError(f"invalid size: '{text}'")
    if value < 0 and text != "-1":
        raise ValueError(f"invalid size: '{text}'")
    return int(value * 1024 ** powers[unit])


def parse_duration(text: str) -> int:
    """Nanoseconds of Go's duration syntax: "1h30m", "1.5s", "250ms", "0". Raises ValueError."""
    rest = text
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = 0.0
    while rest:
        digits = 0
        while digits < len(rest) and (rest[digits].isdigit() or rest[digits] == "."):
            digits += 1
        letters = digits
        while letters < len(rest) and not (rest[letters].isdigit() or rest[letters] == "."):
            letters += 1
        number, unit, rest = rest[:digits], rest[digits:letters], rest[letters:]
        if number in ("", ".") or number.count(".") > 1:
            raise ValueError(f'time: invalid duration "{text}"')
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _DURATION_NS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _DURATION_NS[unit]
    return sign * round(total)


def parse_decimal(text: str) -> int:
    """Billionths of a decimal number ("1.5" -> 1_500_000_000), or of a fraction ("1/2")."""
    try:
        numerator, _, denominator = text.partition("/")
        value = float(numerator) / (float(denominator) if denominator else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    return round(value * 1e9)


def human_duration(seconds: float) -> str:
    """One rough unit: "Less than a second", "5 seconds", "About a minute", "3 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
