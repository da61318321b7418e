//! Arithmetic of numerics, dates and intervals, compared with what PostgreSQL 15 answered.
//!
//! A line of `vectors/operations.tsv` is: time zone, answer or `ERR sqlstate message`, operation, arguments.

use toroid_common::datum::Datum;
use toroid_common::env::Env;
use toroid_common::error::SqlResult;
use toroid_common::types::SqlType;
use toroid_common::types::datetime::arithmetic::*;
use toroid_common::types::datetime::extract::*;
use toroid_common::types::datetime::make::*;
use toroid_common::types::datetime::*;
use toroid_common::types::interval::Interval;
use toroid_common::types::numeric::Numeric;
use toroid_common::types::output::to_text;
use toroid_common::zone::Zone;

fn n(text: &str) -> Numeric {
    Numeric::parse(text).unwrap()
}

#[test]
fn operations_are_postgresqls() {
    for line in include_str!("vectors/operations.tsv").lines() {
        let wanted: Vec<&str> = line.split('\t').take(2).collect();
        let env = Env { time_zone: Zone::parse(wanted[0]).unwrap(), ..Env::default() };
        let z = env.time_zone.clone();
        let f: Vec<&str> = line.split('\t').skip(2).collect();
        let ts = |s: &str| parse_timestamp(s, -1, &env).unwrap();
        let tz = |s: &str| parse_timestamptz(s, -1, &env).unwrap();
        let iv = |s: &str| Interval::parse(s, -1).unwrap();
        let dt = |s: &str| parse_date(s, &env).unwrap();
        let num = |r: SqlResult<Numeric>| r.map(Datum::Numeric).map(|d| (SqlType::Numeric, d));
        let onum = |r: SqlResult<Option<Numeric>>| r.map(|o| (SqlType::Numeric, o.map_or(Datum::Null, Datum::Numeric)));
        let tsr = |r: SqlResult<i64>| r.map(|d| (SqlType::Timestamp, Datum::Timestamp(d)));
        let tzr = |r: SqlResult<i64>| r.map(|d| (SqlType::Timestamptz, Datum::Timestamptz(d)));
        let ivr = |r: SqlResult<Interval>| r.map(|d| (SqlType::Interval, Datum::Interval(d)));
        let r = match f[0] {
            "+" => num(n(f[1]).add(&n(f[2]))),
            "-" => num(n(f[1]).sub(&n(f[2]))),
            "*" => num(n(f[1]).mul(&n(f[2]))),
            "/" => num(n(f[1]).div(&n(f[2]))),
            "%" => num(n(f[1]).rem(&n(f[2]))),
            "div" => num(n(f[1]).div_trunc(&n(f[2]))),
            "^" => num(n(f[1]).power(&n(f[2]))),
            "log" => num(n(f[2]).log(&n(f[1]))),
            "gcd" => num(n(f[1]).gcd(&n(f[2]))),
            "lcm" => num(n(f[1]).lcm(&n(f[2]))),
            "round" => num(n(f[1]).round(f[2].parse().unwrap())),
            "trunc" => num(n(f[1]).trunc(f[2].parse().unwrap())),
            "cmp" => Ok((SqlType::Int4, Datum::Int4(n(f[1]).compare(&n(f[2])) as i32))),
            "sqrt" => num(n(f[1]).sqrt()),
            "ln" => num(n(f[1]).ln()),
            "exp" => num(n(f[1]).exp()),
            "log10" => num(n(f[1]).log10()),
            "ceil" => num(n(f[1]).ceil()),
            "floor" => num(n(f[1]).floor()),
            "abs" => num(Ok(n(f[1]).abs())),
            "sign" => num(Ok(n(f[1]).sign())),
            "neg" => num(Ok(n(f[1]).neg())),
            "trim_scale" => num(n(f[1]).trim_scale()),
            "ts+" => tsr(add_to_timestamp(ts(f[1]), iv(f[2]))),
            "tz+" => tzr(add_to_timestamptz(tz(f[1]), iv(f[2]), &z)),
            "d+" => tsr(add_to_date(dt(f[1]), iv(f[2]))),
            "ts-" => ivr(timestamp_difference(ts(f[1]), ts(f[2]))),
            "age" => ivr(age(ts(f[1]), ts(f[2]))),
            "tzage" => ivr(age(z.to_local(tz(f[1])), z.to_local(tz(f[2])))),
            "iv*" => ivr(iv(f[1]).times(f[2].parse().unwrap())),
            "iv/" => ivr(iv(f[1]).divided_by(f[2].parse().unwrap())),
            "iv+" => ivr(iv(f[1]).plus(iv(f[2]))),
            "iv-" => ivr(iv(f[1]).minus(iv(f[2]))),
            "jh" => ivr(iv(f[1]).justify_hours()),
            "jd" => ivr(iv(f[1]).justify_days()),
            "ji" => ivr(iv(f[1]).justify()),
            "exts" => onum(extract_timestamp(f[1], ts(f[2]))),
            "extz" => onum(extract_timestamptz(f[1], tz(f[2]), &z)),
            "exd" => onum(extract_date(f[1], dt(f[2]))),
            "exi" => num(extract_interval(f[1], iv(f[2]))),
            "ext" => num(extract_time(f[1], parse_time(f[2], -1, &env).unwrap())),
            "trts" => tsr(truncate_timestamp(f[1], ts(f[2]))),
            "trtz" => tzr(truncate_timestamptz(f[1], tz(f[2]), &z)),
            "tri" => ivr(truncate_interval(f[1], iv(f[2]))),
            "t+" => Ok((SqlType::Time, Datum::Time(add_to_time(parse_time(f[1], -1, &env).unwrap(), iv(f[2]))))),
            "mkd" => {
                let v: Vec<i32> = f[1].split(',').map(|x| x.parse().unwrap()).collect();
                make_date(v[0], v[1], v[2]).map(|d| (SqlType::Date, Datum::Date(d)))
            }
            "mkt" => {
                let v: Vec<f64> = f[1].split(',').map(|x| x.parse().unwrap()).collect();
                make_time(v[0] as i32, v[1] as i32, v[2]).map(|d| (SqlType::Time, Datum::Time(d)))
            }
            "mkts" => {
                let v: Vec<f64> = f[1].split(',').map(|x| x.parse().unwrap()).collect();
                tsr(make_timestamp(v[0] as i32, v[1] as i32, v[2] as i32, v[3] as i32, v[4] as i32, v[5]))
            }
            "mki" => {
                let v: Vec<f64> = f[1].split(',').map(|x| x.parse().unwrap()).collect();
                ivr(make_interval([v[0] as i32, v[1] as i32, v[2] as i32, v[3] as i32, v[4] as i32, v[5] as i32], v[6]))
            }
            "atz" => tsr(timestamptz_at_zone(tz(f[1]), &Zone::parse(f[2]).unwrap())),
            "ats" => tzr(timestamp_at_zone(ts(f[1]), &Zone::parse(f[2]).unwrap())),
            other => panic!("{other}"),
        };
        let got = match r {
            Ok((_, Datum::Null)) => "NULL".to_owned(),
            Ok((ty, value)) => to_text(ty, -1, value.borrow(), &env),
            Err(error) => format!("ERR {} {}", error.state(), error.message()),
        };
        assert_eq!(got, wanted[1], "{line}");
    }
}
