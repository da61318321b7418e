//! Random tables and queries over them, the same for the same seed: joins, groups, set operations, subqueries, over values that are easy to get wrong.

/// A generator of statements.
pub struct Generator {
    state: u64,
    aliases: u32,
}

/// A query, and whether its answer has only one right order.
pub struct Generated {
    pub sql: String,
    pub ordered: bool,
}

/// The tables.
const TABLES: [&str; 3] = ["ra", "rb", "rc"];
/// Columns, each with the literals that it may hold; NULL is always one more.
const COLUMNS: [(&str, &str, &[&str]); 7] = [
    ("i", "int", &["0", "1", "2", "3", "-1"]),
    ("n", "numeric(6,2)", &["0.00", "1.00", "1.50", "-2.25", "100.10", "2.00"]),
    ("f", "float8", &["'0'", "'1.5'", "'NaN'", "'-1'", "'Infinity'", "'2'"]),
    ("b", "bool", &["true", "false"]),
    ("t", "text", &["''", "'a'", "'b'", "'B'", "'ab'", "'é'"]),
    ("u", "uuid", &["'00000000-0000-0000-0000-000000000001'", "'ffffffff-0000-0000-0000-000000000002'"]),
    ("v", "interval", &["'1 day'", "'-1 hour'", "'1 month'", "'0'", "'24:30:00'"]),
];

type Column = (String, usize);

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, aliases: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 16) as usize) % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len());
        from[index].clone()
    }

    /// Statements that make and fill the tables.
    pub fn tables(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for table in TABLES {
            all.push(format!("DROP TABLE IF EXISTS {table}"));
            let columns: Vec<String> = COLUMNS.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
            all.push(format!("CREATE TABLE {table} (id int PRIMARY KEY, {})", columns.join(", ")));
            let rows: Vec<String> = (0..8 + self.below(12)).map(|id| self.row(id)).collect();
            all.push(format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        }
        all
    }

    fn row(&mut self, id: usize) -> String {
        let values: Vec<String> = (0..COLUMNS.len()).map(|ty| self.literal(ty, true)).collect();
        format!("({id}, {})", values.join(", "))
    }

    fn literal(&mut self, ty: usize, nulls: bool) -> String {
        if nulls && self.one_in(5) {
            return "NULL".to_owned();
        }
        let (_, name, values) = COLUMNS[ty];
        let value = self.pick(values);
        format!("{value}::{name}")
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}", self.aliases)
    }

    /// A query.
    pub fn query(&mut self) -> Generated {
        self.aliases = 0;
        let (mut sql, columns) = match self.below(8) {
            0..=2 => self.plain(),
            3 | 4 => self.grouped(),
            5 => self.set_operation(),
            6 => self.lateral(),
            _ => self.valued(),
        };
        let ordered = self.one_in(2);
        if ordered {
            let keys: Vec<String> = (1..=columns)
                .map(|place| {
                    let direction = self.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                    format!("{place}{direction}")
                })
                .collect();
            sql = format!("{sql} ORDER BY {}", keys.join(", "));
            if self.one_in(2) {
                sql = format!("{sql} LIMIT {} OFFSET {}", self.below(8), self.below(4));
            }
        }
        Generated { sql, ordered }
    }

    /// FROM with its columns.
    fn from(&mut self) -> (String, Vec<Column>) {
        let first = self.alias();
        let mut sql = format!("{} {first}", self.pick(&TABLES));
        let mut columns = columns_of(&first);
        for _ in 0..self.pick(&[0, 0, 1, 1, 2]) {
            let next = self.alias();
            let table = self.pick(&TABLES);
            let own = columns_of(&next);
            let left = self.pick(&columns);
            let right = format!("{next}.{}", COLUMNS[left.1].0);
            let kind = self.pick(&["JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
            let mut on = format!(" ON {} = {right}", left.0);
            let reach: Vec<Column> = columns.iter().chain(&own).cloned().collect();
            match kind {
                "CROSS JOIN" => on = String::new(),
                "FULL JOIN" => {}
                _ if self.one_in(3) => on = format!("{on} AND {}", self.condition(&reach, 0)),
                _ if self.one_in(4) => on = format!(" ON {}", self.condition(&reach, 0)),
                _ => {}
            }
            sql = format!("{sql} {kind} {table} {next}{on}");
            columns = reach;
        }
        (sql, columns)
    }

    fn filter(&mut self, columns: &[Column], depth: usize) -> String {
        match self.below(3) {
            0 => String::new(),
            _ => format!(" WHERE {}", self.condition(columns, depth)),
        }
    }

    /// A boolean over columns; `depth` is how deep subqueries may go.
    fn condition(&mut self, columns: &[Column], depth: usize) -> String {
        let (a, ty) = self.pick(columns);
        let op = self.pick(&["=", "<>", "<", ">", "<=", ">="]);
        match self.below(if depth > 0 { 16 } else { 9 }) {
            0 | 1 => format!("{a} {op} {}", self.literal(ty, false)),
            2 => format!("{a} {op} {}", self.column(columns, ty)),
            3 => format!("{a} IS {}NULL", self.pick(&["", "NOT "])),
            4 => {
                let list = [self.literal(ty, true), self.literal(ty, true), self.literal(ty, false)];
                format!("{a} {}IN ({})", self.pick(&["", "NOT "]), list.join(", "))
            }
            5 => format!("{a} IS {}DISTINCT FROM {}", self.pick(&["", "NOT "]), self.column(columns, ty)),
            6 => format!("({} AND {})", self.condition(columns, depth), self.condition(columns, depth)),
            7 => format!("({} OR {})", self.condition(columns, depth), self.condition(columns, depth)),
            8 => format!("NOT ({})", self.condition(columns, depth)),
            9 | 10 => {
                let (sql, _) = self.inner(columns, ty, depth - 1);
                format!("{a} {}IN ({sql})", self.pick(&["", "NOT "]))
            }
            11 | 12 => {
                let (sql, _) = self.inner(columns, ty, depth - 1);
                format!("{}EXISTS ({sql})", self.pick(&["", "NOT "]))
            }
            13 => {
                let (sql, _) = self.inner(columns, ty, depth - 1);
                format!("{a} {op} {} ({sql})", self.pick(&["ANY", "ALL"]))
            }
            _ => format!("{a} {op} {}", self.scalar(columns, ty, depth - 1)),
        }
    }

    fn column(&mut self, columns: &[Column], ty: usize) -> String {
        let fitting: Vec<Column> = columns.iter().filter(|c| c.1 == ty).cloned().collect();
        self.pick(&fitting).0
    }

    /// A subquery of one column of a type; it may read the columns around it.
    fn inner(&mut self, around: &[Column], ty: usize, depth: usize) -> (String, String) {
        let (from, own) = self.from();
        let value = self.column(&own, ty);
        let both: Vec<Column> = own.iter().chain(around).cloned().collect();
        let filter = match self.below(4) {
            0 => String::new(),
            1 | 2 => {
                let (mine, ty) = self.pick(&own);
                let more =
                    if self.one_in(3) { format!(" AND {}", self.condition(&both, depth)) } else { String::new() };
                format!(" WHERE {mine} {} {}{more}", self.pick(&["=", "=", "<", ">="]), self.column(around, ty))
            }
            _ => format!(" WHERE {}", self.condition(&both, depth)),
        };
        let tail = match self.below(8) {
            0 => format!(" ORDER BY {value} LIMIT {}", 1 + self.below(3)),
            1 => format!(" GROUP BY {value} HAVING count(*) > 1"),
            2 => return (format!("SELECT DISTINCT {value} FROM {from}{filter}"), value),
            _ => String::new(),
        };
        (format!("SELECT {value} FROM {from}{filter}{tail}"), value)
    }

    /// A scalar subquery of a type.
    fn scalar(&mut self, around: &[Column], ty: usize, depth: usize) -> String {
        let (from, own) = self.from();
        let value = self.column(&own, ty);
        let both: Vec<Column> = own.iter().chain(around).cloned().collect();
        let filter = match self.below(3) {
            0 => format!(" WHERE {}", self.condition(&both, depth)),
            _ => {
                let (mine, ty) = self.pick(&own);
                format!(" WHERE {mine} {} {}", self.pick(&["=", "=", "<>", ">"]), self.column(around, ty))
            }
        };
        match (ty, self.below(6)) {
            (_, 0) => format!("(SELECT {value} FROM {from}{filter} ORDER BY 1 DESC LIMIT 1)"),
            (_, 1) => format!("(SELECT {value} FROM {from}{filter} GROUP BY {value} ORDER BY 1 LIMIT 1)"),
            (0, _) => format!("(SELECT count({value})::int FROM {from}{filter})"),
            (1, _) => format!("(SELECT sum({value}) FROM {from}{filter})"),
            (3, _) => format!("(SELECT bool_or({value}) FROM {from}{filter})"),
            (5, _) => format!("(SELECT {value} FROM {from}{filter} ORDER BY 1 LIMIT 1)"),
            _ => format!("(SELECT {}({value}) FROM {from}{filter})", self.pick(&["min", "max"])),
        }
    }

    fn outputs(&mut self, columns: &[Column], least: usize) -> Vec<Column> {
        (0..least + self.below(3)).map(|_| self.pick(columns)).collect()
    }

    fn plain(&mut self) -> (String, usize) {
        let (from, columns) = self.from();
        let outputs: Vec<String> = self.outputs(&columns, 1).into_iter().map(|c| c.0).collect();
        let distinct = if self.one_in(3) { "DISTINCT " } else { "" };
        let filter = self.filter(&columns, 2);
        (format!("SELECT {distinct}{} FROM {from}{filter}", outputs.join(", ")), outputs.len())
    }

    fn grouped(&mut self) -> (String, usize) {
        let (from, columns) = self.from();
        let keys = self.outputs(&columns, 0);
        let keys: Vec<String> = keys.into_iter().map(|c| c.0).collect();
        let mut outputs = keys.clone();
        for _ in 0..1 + self.below(3) {
            outputs.push(self.aggregate(&columns));
        }
        let filter = self.filter(&columns, 1);
        let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
        let having = match self.below(3) {
            0 => format!(" HAVING count(*) {} {}", self.pick(&[">", "=", "<"]), self.below(4)),
            _ => String::new(),
        };
        (format!("SELECT {} FROM {from}{filter}{group}{having}", outputs.join(", ")), outputs.len())
    }

    fn aggregate(&mut self, columns: &[Column]) -> String {
        let (column, ty) = self.pick(columns);
        let distinct = if self.one_in(3) { "DISTINCT " } else { "" };
        let call = match (self.below(4), ty) {
            (0, _) => "count(*)".to_owned(),
            (1, _) | (_, 5) => format!("count({distinct}{column})"),
            (2, 0 | 1) => format!("{}({distinct}{column})", self.pick(&["sum", "avg"])),
            (_, 3) => format!("{}({column})", self.pick(&["bool_and", "bool_or"])),
            (3, 4) => format!("string_agg({column}, '|' ORDER BY {column})"),
            _ => format!("{}({column})", self.pick(&["min", "max"])),
        };
        match self.one_in(5) {
            true => format!("{call} FILTER (WHERE {})", self.condition(columns, 0)),
            false => call,
        }
    }

    fn set_operation(&mut self) -> (String, usize) {
        let types: Vec<usize> = (0..1 + self.below(2)).map(|_| self.below(COLUMNS.len())).collect();
        let mut sql = self.side(&types);
        for _ in 0..1 + self.below(2) {
            let op = self.pick(&["UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
            sql = format!("{sql} {op} {}", self.side(&types));
        }
        (sql, types.len())
    }

    fn side(&mut self, types: &[usize]) -> String {
        let (from, columns) = self.from();
        let outputs: Vec<String> = types.iter().map(|ty| self.column(&columns, *ty)).collect();
        let filter = self.filter(&columns, 1);
        format!("SELECT {} FROM {from}{filter}", outputs.join(", "))
    }

    /// Subqueries in the SELECT list.
    fn valued(&mut self) -> (String, usize) {
        let (from, columns) = self.from();
        let ty = self.below(COLUMNS.len());
        let value = match self.below(6) {
            0 => {
                let (sql, _) = self.inner(&columns, ty, 1);
                format!("EXISTS ({sql})")
            }
            1 => {
                let (sql, _) = self.inner(&columns, ty, 1);
                let left = self.column(&columns, ty);
                format!("{left} {}IN ({sql})", self.pick(&["", "NOT "]))
            }
            2 => {
                let (sql, _) = self.inner(&columns, ty, 1);
                let left = self.column(&columns, ty);
                format!("{left} {} {} ({sql})", self.pick(&["=", "<", "<>"]), self.pick(&["ANY", "ALL"]))
            }
            3 => format!("CASE WHEN {} THEN {} END", self.condition(&columns, 0), self.scalar(&columns, ty, 1)),
            _ => self.scalar(&columns, ty, 1),
        };
        let first = self.pick(&columns).0;
        let filter = self.filter(&columns, 0);
        (format!("SELECT {first}, {value} FROM {from}{filter}"), 2)
    }

    fn lateral(&mut self) -> (String, usize) {
        let (from, columns) = self.from();
        let ty = self.below(COLUMNS.len());
        let (sql, _) = self.inner(&columns, ty, 1);
        let first = self.pick(&columns).0;
        let join = self.pick(&["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"]);
        let on = if join.starts_with("LEFT") { " ON true" } else { "" };
        (format!("SELECT {first}, l.w FROM {from} {join} ({sql}) AS l(w){on}"), 2)
    }
}

fn columns_of(alias: &str) -> Vec<Column> {
    COLUMNS.iter().enumerate().map(|(ty, (name, ..))| (format!("{alias}.{name}"), ty)).collect()
}
