//! The values of TimeZone: IANA names in their proper spelling, and fixed offsets in the POSIX notation in which SHOW prints them.

use chrono_tz::TZ_VARIANTS;

/// Largest offset that PostgreSQL takes, in hours.
const MAX_HOURS: f64 = 168.0;

/// The canonical text of a zone, if there is such a zone.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    if text.starts_with('<') {
        return posix_offset(text).map(|_| text.to_owned());
    }
    if let Ok(hours) = text.parse::<f64>() {
        return (hours.is_finite() && hours.abs() <= MAX_HOURS).then(|| posix((hours * 3_600.0).round() as i32));
    }
    if let Some(seconds) = clock(text) {
        return Some(posix(seconds));
    }
    TZ_VARIANTS.iter().map(|zone| zone.name()).find(|name| name.eq_ignore_ascii_case(text)).map(str::to_owned)
}

/// `+02:30`, as `SET TIME ZONE INTERVAL` and drivers write it: seconds east.
fn clock(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => (1, text),
    };
    let mut parts = rest.split(':');
    let hours = parts.next()?.parse::<u16>().ok()?;
    let minutes = parts.next()?.parse::<u16>().ok()?;
    let seconds = parts.next().map_or(Some(0), |s| s.parse::<u16>().ok())?;
    let valid = parts.next().is_none() && hours <= 15 && minutes < 60 && seconds < 60;
    valid.then(|| sign * (i32::from(hours) * 3_600 + i32::from(minutes) * 60 + i32::from(seconds)))
}

/// `<+03:30>-03:30`: a name, then the offset with its sign turned round.
fn posix(seconds: i32) -> String {
    let write = |sign: char| {
        let (hours, minutes, rest) = (seconds.abs() / 3_600, seconds.abs() / 60 % 60, seconds.abs() % 60);
        match (minutes, rest) {
            (0, 0) => format!("{sign}{hours:02}"),
            (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
        }
    };
    let (east, west) = if seconds < 0 { ('-', '+') } else { ('+', '-') };
    format!("<{}>{}", write(east), write(west))
}

/// Seconds east of a zone in the notation of [`posix`].
fn posix_offset(text: &str) -> Option<i32> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    match name.contains(':') {
        true => clock(name),
        false => Some(name.parse::<i32>().ok()? * 3_600),
    }
}

/// What the environment of a statement takes: an IANA name or `+03:30`.
pub(super) fn for_env(canonical: &str) -> &str {
    canonical.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(canonical, |(name, _)| name)
}
