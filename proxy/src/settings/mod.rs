//! Session settings: what SET, SHOW and RESET read and write, with PostgreSQL's names, units and checks.

pub mod definition;
mod keepalive;
mod list;
mod number;
mod value;

pub use keepalive::Keepalive;

use definition::{Context, Definition, EFFECTIVE, REPORTED};
use std::collections::BTreeMap;
use std::time::Duration;
use toroid_common::env::DateOrder;
use toroid_common::error::{SqlError, SqlState};
use toroid_common::transaction::Level;
use toroid_common::zone::Zone;

/// What a setting that Toroid accepts but does not need is described as.
const WITHOUT_EFFECT: &str = "Accepted for compatibility; changes nothing.";
/// Most settings with a prefix (`app.user`) that a session may have, and most bytes of one value.
const MAX_CUSTOM: usize = 1_000;
const MAX_VALUE: usize = 1 << 16;

/// The modes of a transaction, and what it begins with.
const MODES: [(&str, &str); 3] = [
    ("transaction_deferrable", "default_transaction_deferrable"),
    ("transaction_isolation", "default_transaction_isolation"),
    ("transaction_read_only", "default_transaction_read_only"),
];
const READ_ONLY: &str = "transaction_read_only";

type Values = BTreeMap<String, String>;

/// The settings of one session: only what differs from the defaults takes memory.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// By lower-case name, what SHOW prints.
    values: Values,
    /// What RESET goes back to where that is not the default: options of the connection's start.
    start: Values,
    /// `values` when the open transaction changed them first.
    before: Option<Box<Values>>,
    /// SET LOCAL: what to go back to at the transaction's end.
    local: BTreeMap<String, Option<String>>,
    cached: Cached,
}

/// Settings that statements ask for.
#[derive(Clone, Copy, Debug)]
struct Cached {
    date_order: DateOrder,
    extra_float_digits: i8,
    read_only: bool,
    escape_bytea: bool,
    isolation: Level,
    lock_timeout: u64,
    statement_timeout: u64,
    idle_in_transaction: u64,
    idle: u64,
    keepalive: Keepalive,
}

impl Default for Cached {
    fn default() -> Cached {
        Cached {
            date_order: DateOrder::Mdy,
            extra_float_digits: 1,
            read_only: false,
            escape_bytea: false,
            isolation: Level::ReadCommitted,
            lock_timeout: 0,
            statement_timeout: 0,
            idle_in_transaction: 0,
            idle: 0,
            keepalive: Keepalive::default(),
        }
    }
}

/// What was set at a savepoint.
#[derive(Clone, Debug)]
pub struct Mark {
    values: Values,
    local: BTreeMap<String, Option<String>>,
}

/// How long a change lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The session, or nothing when the open transaction is rolled back.
    Session { in_transaction: bool },
    /// The open transaction.
    Local,
    /// The start of the connection: RESET comes back to it.
    Start,
}

fn lower(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

fn find(name: &str) -> Option<&'static Definition> {
    let at = list::SETTINGS.binary_search_by(|d| lower(d.name).cmp(lower(name))).ok()?;
    list::SETTINGS.get(at)
}

/// What a transaction takes this mode from.
fn mode(key: &str) -> Option<&'static str> {
    MODES.iter().find(|(mode, _)| *mode == key).map(|(_, default)| *default)
}

fn unrecognized(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

/// Names with a prefix belong to applications.
fn is_custom(name: &str) -> bool {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    };
    name.contains('.') && name.split('.').all(part)
}

/// Whose session it is.
const USER: &str = "session_authorization";

/// A setting's name as it is defined; others are shown in lower case.
pub fn proper_name(name: &str) -> String {
    find(name).map_or_else(|| name.to_ascii_lowercase(), |d| d.name.to_owned())
}

impl Settings {
    /// Sets for the life of the server or connection what no SET may change (`max_connections`, `session_authorization`).
    pub fn describe(&mut self, name: &str, value: &str) {
        self.start.insert(name.to_ascii_lowercase(), value.to_owned());
        self.values.insert(name.to_ascii_lowercase(), value.to_owned());
    }

    /// SET, or an option of the start; `None` is DEFAULT. Gives the setting's proper name when the client must be told.
    pub fn set(&mut self, name: &str, value: Option<&str>, scope: Scope) -> Result<Option<&'static str>, SqlError> {
        let key = name.to_ascii_lowercase();
        let definition = find(name);
        let value = match (definition, value) {
            (Some(definition), value) => {
                changeable(definition, scope)?;
                match value {
                    Some(text) => {
                        let current = self.get(&key).unwrap_or(definition.default);
                        let canonical = value::canonical(definition, text, current)?;
                        value::supported(definition.name, &canonical, self.get(USER).unwrap_or_default())?;
                        Some(canonical)
                    }
                    // A transaction's mode goes back to what no setting of the session says.
                    None if mode(&key).is_some() => Some(definition.default.to_owned()),
                    None => self.start.get(&key).cloned(),
                }
            }
            (None, value) if is_custom(name) => Some(value.unwrap_or_default().to_owned()),
            (None, _) => return Err(unrecognized(name)),
        };
        let is_new = definition.is_none() && !self.values.contains_key(&key);
        if value.as_ref().is_some_and(|v| v.len() > MAX_VALUE) || is_new && self.values.len() >= MAX_CUSTOM {
            let message = format!("too many settings, or too long a value for parameter \"{name}\"");
            return Err(SqlError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message));
        }
        if definition.is_none() {
            self.know(&key);
        }
        match (mode(&key), scope) {
            (None, _) => self.store(key, value, scope),
            (Some(_), Scope::Local | Scope::Session { in_transaction: true }) => self.store(key, value, Scope::Local),
            // The next transaction begins with its defaults.
            (Some(_), Scope::Start | Scope::Session { in_transaction: false }) => {}
        }
        Ok(definition.map(|d| d.name).filter(|name| REPORTED.contains(name)))
    }

    /// An application's setting is known to the session from its first SET on, also when that is taken back: then it is empty. Where there are very many it is
    /// forgotten, so that there is room for others.
    fn know(&mut self, key: &str) {
        let values = std::iter::once(&mut self.values).chain(self.before.as_deref_mut());
        let lacks = |values: &&mut Values| !values.contains_key(key) && values.len() < MAX_CUSTOM / 2;
        values.filter(lacks).for_each(|values| {
            values.insert(key.to_owned(), String::new());
        });
    }

    /// What was known of applications' settings stays so.
    fn know_all(&mut self, old: &Values) {
        old.keys().filter(|key| is_custom(key)).for_each(|key| self.know(key));
    }

    fn store(&mut self, key: String, value: Option<String>, scope: Scope) {
        match scope {
            Scope::Session { in_transaction } => {
                if in_transaction && self.before.is_none() {
                    self.before = Some(Box::new(self.values.clone()));
                }
                self.local.remove(&key);
            }
            Scope::Local => {
                if self.before.is_none() {
                    self.before = Some(Box::new(self.values.clone()));
                }
                self.local.entry(key.clone()).or_insert_with(|| self.values.get(&key).cloned());
            }
            Scope::Start => {
                if let Some(value) = &value {
                    self.start.insert(key.clone(), value.clone());
                }
            }
        }
        let within = matches!(scope, Scope::Local | Scope::Session { in_transaction: true });
        let modes = (within && MODES.iter().any(|(_, default)| *default == key)).then(|| self.modes());
        match value {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        if let Some(modes) = modes {
            self.keep_modes(&modes);
        }
        self.refresh();
    }

    /// Modes of transactions that are none of their own, but what other settings say.
    pub fn modes_by_default(&self) -> impl Iterator<Item = (String, String)> {
        let unset = MODES.iter().filter(|(mode, _)| !self.values.contains_key(*mode));
        unset.filter_map(|(mode, default)| Some(((*mode).to_owned(), self.values.get(*default)?.clone())))
    }

    fn modes(&self) -> [Option<String>; 3] {
        MODES.map(|(mode, _)| self.get(mode).map(str::to_owned))
    }

    /// The open transaction keeps its modes, whatever the next ones are to begin with.
    fn keep_modes(&mut self, modes: &[Option<String>; 3]) {
        for ((mode, _), was) in MODES.iter().zip(modes) {
            let Some(was) = was.as_deref().filter(|was| self.get(mode) != Some(was)) else { continue };
            self.local.entry((*mode).to_owned()).or_insert(None);
            self.values.insert((*mode).to_owned(), was.to_owned());
        }
    }

    /// RESET ALL and DISCARD ALL. Gives the names that the client must be told.
    pub fn reset_all(&mut self, in_transaction: bool) -> Vec<&'static str> {
        if in_transaction && self.before.is_none() {
            self.before = Some(Box::new(self.values.clone()));
        }
        let modes = self.modes();
        let old = std::mem::replace(&mut self.values, self.start.clone());
        self.local.clear();
        self.know_all(&old);
        if in_transaction {
            self.keep_modes(&modes);
        }
        self.refresh();
        self.changed_since(&old)
    }

    /// Whether the open transaction has set anything.
    pub fn has_changed(&self) -> bool {
        self.before.is_some() || !self.local.is_empty()
    }

    /// The end of a transaction. Gives the names that the client must be told.
    pub fn end_transaction(&mut self, commit: bool) -> Vec<&'static str> {
        let before = self.before.take();
        let local = std::mem::take(&mut self.local);
        let Some(before) = before else { return Vec::new() };
        let old = self.values.clone();
        if commit {
            for (key, value) in local {
                match value {
                    Some(value) => self.values.insert(key, value),
                    None => self.values.remove(&key),
                };
            }
        } else {
            self.values = *before;
        }
        self.refresh();
        self.changed_since(&old)
    }

    /// What is set now, to come back to it with [`Settings::restore`] in the same transaction.
    pub fn mark(&mut self) -> Mark {
        if self.before.is_none() {
            self.before = Some(Box::new(self.values.clone()));
        }
        Mark { values: self.values.clone(), local: self.local.clone() }
    }

    /// ROLLBACK TO. Gives the names that the client must be told.
    pub fn restore(&mut self, mark: &Mark) -> Vec<&'static str> {
        let old = std::mem::replace(&mut self.values, mark.values.clone());
        self.local.clone_from(&mark.local);
        self.know_all(&old);
        self.refresh();
        self.changed_since(&old)
    }

    /// RELEASE: what was set since goes on, but for the right to write.
    pub fn release(&mut self, mark: &Mark) {
        let now = std::mem::replace(&mut self.values, mark.values.clone());
        let was = self.get(READ_ONLY).map(str::to_owned);
        self.values = now;
        if let Some(was) = was.filter(|was| self.get(READ_ONLY) != Some(was)) {
            self.store(READ_ONLY.to_owned(), Some(was), Scope::Local);
        }
    }

    fn changed_since(&self, old: &Values) -> Vec<&'static str> {
        let key = |name: &str| name.to_ascii_lowercase();
        REPORTED.iter().copied().filter(|name| old.get(&key(name)) != self.values.get(&key(name))).collect()
    }

    /// What SHOW prints; none when there is no such setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.values.get(&name.to_ascii_lowercase()) {
            Some(value) => Some(value),
            None => match mode(&name.to_ascii_lowercase()) {
                Some(default) => self.get(default),
                None => find(name).map(|definition| definition.default),
            },
        }
    }

    /// Whether SET to this value, or to DEFAULT, would leave a transaction's mode as it is.
    pub fn is_already(&self, name: &str, value: Option<&str>) -> bool {
        let (Some(definition), Some(now)) = (find(name), self.get(name)) else { return false };
        let wanted = value.map_or(Ok(definition.default.to_owned()), |text| value::canonical(definition, text, now));
        wanted.is_ok_and(|wanted| wanted == now)
    }

    /// SHOW: proper name and value.
    pub fn show(&self, name: &str) -> Result<(String, String), SqlError> {
        let value = self.get(name).ok_or_else(|| unrecognized(name))?;
        Ok((proper_name(name), value.to_owned()))
    }

    /// SHOW ALL: name, value, description.
    pub fn show_all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        list::SETTINGS.iter().map(|definition| {
            let described = EFFECTIVE.iter().find(|(name, _)| *name == definition.name);
            let value = self.get(definition.name).unwrap_or(definition.default);
            (definition.name, value, described.map_or(WITHOUT_EFFECT, |(_, text)| text))
        })
    }

    /// Every reported setting with its value, for the start of a connection.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REPORTED.iter().filter_map(|name| Some((*name, self.get(name)?)))
    }

    /// By lower-case name, all that differs from the defaults.
    pub fn changed(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    fn refresh(&mut self) {
        let date_order = match self.get("datestyle") {
            Some(style) if style.ends_with("DMY") => DateOrder::Dmy,
            Some(style) if style.ends_with("YMD") => DateOrder::Ymd,
            _ => DateOrder::Mdy,
        };
        let on = |name: &str| self.get(name) == Some("on");
        let time = |name: &str| self.get(name).map_or(0, number::milliseconds);
        let isolation = match self.get("transaction_isolation") {
            Some("serializable") => Level::Serializable,
            Some("repeatable read") => Level::RepeatableRead,
            _ => Level::ReadCommitted,
        };
        self.cached = Cached {
            date_order,
            extra_float_digits: self.get("extra_float_digits").and_then(|v| v.parse().ok()).unwrap_or(1),
            read_only: on(READ_ONLY),
            escape_bytea: self.get("bytea_output") == Some("escape"),
            isolation,
            lock_timeout: time("lock_timeout"),
            statement_timeout: time("statement_timeout"),
            idle_in_transaction: time("idle_in_transaction_session_timeout"),
            idle: time("idle_session_timeout"),
            keepalive: Keepalive::of(self),
        };
    }

    pub fn date_order(&self) -> DateOrder {
        self.cached.date_order
    }

    pub fn extra_float_digits(&self) -> i8 {
        self.cached.extra_float_digits
    }

    /// Whether statements that write are refused (25006).
    pub fn read_only(&self) -> bool {
        self.cached.read_only
    }

    /// `bytea_output = escape`.
    pub fn escape_bytea(&self) -> bool {
        self.cached.escape_bytea
    }

    /// How the open transaction is isolated, or the next one.
    pub fn isolation(&self) -> Level {
        self.cached.isolation
    }

    /// Milliseconds that a statement waits for a lock; 0: as long as it takes.
    pub fn lock_timeout_ms(&self) -> u32 {
        u32::try_from(self.cached.lock_timeout).unwrap_or(u32::MAX)
    }

    pub fn statement_timeout(&self) -> Option<Duration> {
        duration(self.cached.statement_timeout)
    }

    /// After how long a session that waits for its client ends.
    pub fn idle_timeout(&self, in_transaction: bool) -> Option<Duration> {
        match in_transaction {
            true => duration(self.cached.idle_in_transaction),
            false => duration(self.cached.idle),
        }
    }

    /// When the client's machine counts as gone.
    pub fn keepalive(&self) -> Keepalive {
        self.cached.keepalive
    }

    pub fn time_zone(&self) -> Zone {
        self.get("timezone").and_then(Zone::parse).unwrap_or_default()
    }

    /// The schemas of `search_path`, quotes removed, with `$user` replaced.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let text = self.get("search_path").unwrap_or_default();
        let mut path = identifiers(text);
        for schema in path.iter_mut().filter(|schema| *schema == "$user") {
            user.clone_into(schema);
        }
        path
    }

    /// Whether a notice of this severity, as `client_min_messages` names it, is sent.
    pub fn sends(&self, severity: &str) -> bool {
        const ORDER: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];
        let rank = |name: &str| ORDER.iter().position(|known| *known == name);
        rank(severity).is_none_or(|rank_of| rank_of >= self.get("client_min_messages").and_then(rank).unwrap_or(0))
    }
}

fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

fn changeable(definition: &Definition, scope: Scope) -> Result<(), SqlError> {
    let name = definition.name;
    let message = match (definition.context, scope) {
        (Context::User, _) => return Ok(()),
        (Context::Internal, _) => format!("parameter \"{name}\" cannot be changed"),
        (Context::Start, _) => format!("parameter \"{name}\" cannot be changed without restarting the server"),
    };
    Err(SqlError::new(SqlState::CANT_CHANGE_RUNTIME_PARAM, message))
}

/// A list of identifiers, quoted or folded to lower case.
fn identifiers(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut quoted, mut seen) = (String::new(), false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                name.push('"');
            }
            '"' => {
                quoted = !quoted;
                seen = true;
            }
            ',' if !quoted => {
                names.push(std::mem::take(&mut name));
                seen = false;
            }
            c if !quoted && c.is_whitespace() => {}
            c if quoted => name.push(c),
            c => {
                name.extend(c.to_lowercase());
                seen = true;
            }
        }
    }
    if seen {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests;
