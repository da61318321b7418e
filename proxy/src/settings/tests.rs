//! Settings against what PostgreSQL 15 answered to the same statements.

use super::*;

const SESSION: Scope = Scope::Session { in_transaction: false };

fn shown(name: &str, value: &str) -> String {
    let mut settings = Settings::default();
    match settings.set(name, Some(value), SESSION) {
        Ok(_) => settings.show(name).unwrap().1,
        Err(error) => {
            let extra = error.hint().or(error.detail()).unwrap_or("");
            format!("{} {extra}", error).trim_end().to_owned()
        }
    }
}

#[test]
fn very_many_settings_of_applications_leave_room_for_others() {
    let mut settings = Settings::default();
    for number in 0..3 * MAX_CUSTOM {
        settings.set(&format!("app.n{number}"), Some("7"), Scope::Local).unwrap();
        settings.end_transaction(true);
    }
    settings.set("statement_timeout", Some("7"), Scope::Session { in_transaction: false }).unwrap();
    assert_eq!(settings.show("app.n1").unwrap().1, "");
}

#[test]
fn definitions_are_sorted_and_defaults_canonical() {
    let lower: Vec<_> = list::SETTINGS.iter().map(|d| d.name.to_ascii_lowercase()).collect();
    assert!(lower.is_sorted());
    for definition in list::SETTINGS.iter().filter(|d| d.default != "unavailable") {
        assert_eq!(value::canonical(definition, definition.default, definition.default).unwrap(), definition.default);
    }
}

#[test]
fn integers_have_units() {
    assert_eq!(shown("work_mem", "10 MB"), "10MB");
    assert_eq!(shown("work_mem", "0.5MB"), "512kB");
    assert_eq!(shown("statement_timeout", "1.5s"), "1500ms");
    assert_eq!(shown("statement_timeout", "2min"), "2min");
    assert_eq!(shown("statement_timeout", "90000"), "90s");
    assert_eq!(shown("lock_timeout", "1d"), "1d");
    assert_eq!(shown("geqo_threshold", "0x10"), "16");
    assert_eq!(shown("extra_float_digits", "3.4"), "3");
    assert_eq!(
        shown("work_mem", "1xB"),
        "22023: invalid value for parameter \"work_mem\": \"1xB\" Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\"."
    );
    assert_eq!(
        shown("work_mem", "10000000000"),
        "22023: invalid value for parameter \"work_mem\": \"10000000000\" Value exceeds integer range."
    );
    assert_eq!(
        shown("work_mem", "1"),
        "22023: 1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)"
    );
    assert_eq!(
        shown("temp_buffers", "1"),
        "22023: 1 8kB is outside the valid range for parameter \"temp_buffers\" (100 .. 1073741823)"
    );
    assert_eq!(
        shown("statement_timeout", "1 day"),
        "22023: invalid value for parameter \"statement_timeout\": \"1 day\" Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
    );
    assert_eq!(shown("geqo_threshold", "5 MB"), "22023: invalid value for parameter \"geqo_threshold\": \"5 MB\"");
    assert_eq!(shown("random_page_cost", "1.50"), "1.5");
    assert_eq!(shown("seq_page_cost", "abc"), "22023: invalid value for parameter \"seq_page_cost\": \"abc\"");
    assert_eq!(shown("seq_page_cost", "1e400"), "22023: invalid value for parameter \"seq_page_cost\": \"1e400\"");
}

#[test]
fn enumerations_and_booleans() {
    assert_eq!(shown("jit", "1"), "on");
    assert_eq!(shown("jit", "of"), "off");
    assert_eq!(shown("jit", "maybe"), "22023: parameter \"jit\" requires a Boolean value");
    assert_eq!(shown("synchronous_commit", "1"), "on");
    assert_eq!(shown("backslash_quote", "yes"), "on");
    assert_eq!(
        shown("bytea_output", "foo"),
        "22023: invalid value for parameter \"bytea_output\": \"foo\" Available values: escape, hex."
    );
    assert_eq!(
        shown("xmloption", "doc"),
        "22023: invalid value for parameter \"xmloption\": \"doc\" Available values: content, document."
    );
}

#[test]
fn time_zones() {
    assert_eq!(shown("timezone", "europe/berlin"), "Europe/Berlin");
    assert_eq!(shown("timezone", "+3"), "<+03>-03");
    assert_eq!(shown("timezone", "-5"), "<-05>+05");
    assert_eq!(shown("timezone", "3.5"), "<+03:30>-03:30");
    assert_eq!(shown("timezone", "EST5EDT"), "EST5EDT");
    assert_eq!(shown("timezone", "utc"), "UTC");
    assert_eq!(shown("TimeZone", "Foo/Bar"), "22023: invalid value for parameter \"TimeZone\": \"Foo/Bar\"");
    let mut settings = Settings::default();
    settings.set("timezone", Some("-3.5"), SESSION).unwrap();
    assert_eq!(settings.time_zone(), Zone::fixed(-12_600).unwrap());
}

#[test]
fn date_style_keeps_what_is_not_named() {
    assert_eq!(shown("datestyle", "iso, ymd"), "ISO, YMD");
    assert_eq!(shown("datestyle", "euro"), "ISO, DMY");
    assert_eq!(
        shown("datestyle", "foo"),
        "22023: invalid value for parameter \"DateStyle\": \"foo\" Unrecognized key word: \"foo\"."
    );
    assert_eq!(
        shown("datestyle", "iso, sql"),
        "22023: invalid value for parameter \"DateStyle\": \"iso, sql\" Conflicting \"datestyle\" specifications."
    );
    assert_eq!(shown("datestyle", "german"), "0A000: DateStyle = 'German, DMY' is not supported");
}

#[test]
fn what_cannot_be_set() {
    assert_eq!(shown("foo", "1"), "42704: unrecognized configuration parameter \"foo\"");
    assert_eq!(shown("server_version", "1"), "55P02: parameter \"server_version\" cannot be changed");
    assert_eq!(
        shown("max_connections", "1"),
        "55P02: parameter \"max_connections\" cannot be changed without restarting the server"
    );
    assert_eq!(shown("client_encoding", "latin1"), "0A000: client_encoding latin1 is not supported");
    assert_eq!(shown("client_encoding", "foo"), "22023: invalid value for parameter \"client_encoding\": \"foo\"");
    assert_eq!(shown("client_encoding", "'utf-8'"), "UTF8");
    assert_eq!(shown("app.user", "7"), "7");
    assert!(Settings::default().show("app.user").is_err());
}

#[test]
fn transactions_take_settings_back() {
    let mut settings = Settings::default();
    let inside = Scope::Session { in_transaction: true };
    settings.set("work_mem", Some("1MB"), inside).unwrap();
    settings.set("application_name", Some("x"), Scope::Local).unwrap();
    assert_eq!(settings.end_transaction(true), ["application_name"]);
    assert_eq!((settings.get("work_mem"), settings.get("application_name")), (Some("1MB"), Some("")));
    settings.set("timezone", Some("Asia/Tokyo"), inside).unwrap();
    assert_eq!(settings.end_transaction(false), ["TimeZone"]);
    assert_eq!(settings.time_zone(), Zone::default());
}

#[test]
fn start_options_are_what_reset_goes_back_to() {
    let mut settings = Settings::default();
    settings.set("extra_float_digits", Some("2"), Scope::Start).unwrap();
    settings.set("extra_float_digits", Some("0"), SESSION).unwrap();
    assert_eq!(settings.extra_float_digits(), 0);
    settings.set("extra_float_digits", None, SESSION).unwrap();
    assert_eq!(settings.extra_float_digits(), 2);
}

#[test]
fn search_path_is_a_list_of_names() {
    let mut settings = Settings::default();
    assert_eq!(settings.search_path("me"), ["me", "public"]);
    settings.set("search_path", Some("A, \"B c\", \"$user\""), SESSION).unwrap();
    assert_eq!(settings.search_path("me"), ["a", "B c", "me"]);
    settings.set("search_path", Some("\"\""), SESSION).unwrap();
    assert_eq!(settings.search_path("me"), [""]);
}
