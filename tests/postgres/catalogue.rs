//! What clients with trees of tables ask when they connect: DBeaver's queries, and those that libraries send.

use super::raw::{self, Raw, message, sync};
use super::support::origin::Origin;
use super::support::site::Site;

#[test]
fn dbeaver_finds_its_way() {
    let origin = Origin::start();
    let site = Site::new(origin.addr);
    let house = site.start("analytics");
    let mut raw = Raw::open(house.addr("postgres"));
    let ask = |raw: &mut Raw, sql: &str| raw.rows(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let number = |rows: Vec<Vec<Option<String>>>| rows[0][0].clone().unwrap();
    let requests =
        number(ask(&mut raw, "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = 'requests'"));
    let public = number(ask(&mut raw, "SELECT oid FROM pg_namespace WHERE nspname = 'public'"));
    for (sql, least) in [
        ("SELECT version()", 1),
        (
            "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE 1=1 AND datallowconn AND NOT datistemplate OR db.datname ='tollhouse' ORDER BY db.datname",
            1,
        ),
        ("select * from pg_catalog.pg_settings where name='standard_conforming_strings'", 1),
        (
            "select string_agg(word, ',' ) from pg_catalog.pg_get_keywords() where word <> ALL ( '{a,abs,absolute}'::text[] )",
            1,
        ),
        ("SELECT current_schema(),session_user", 1),
        (
            "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
            4,
        ),
        (
            "SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1184",
            1,
        ),
        (
            "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
            30,
        ),
        ("SHOW search_path", 1),
        (
            &format!(
                "SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass WHERE c.relnamespace={public} AND c.relkind not in ('i','I','c')"
            ),
            7,
        ),
        (
            &format!(
                "SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid) LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid WHERE NOT a.attisdropped AND c.relkind not in ('i','I','c') AND c.oid={requests} ORDER BY a.attnum"
            ),
            60,
        ),
        (
            &format!(
                "SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, case when c.contype='c' then substring(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass WHERE c.conrelid={requests} ORDER BY c.oid"
            ),
            0,
        ),
        (
            &format!(
                "SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as tabrelname,dsc.description,pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid WHERE i.indrelid={requests} ORDER BY tabrelname, c.relname"
            ),
            0,
        ),
        (
            "SELECT a.oid,a.*,pd.description FROM pg_catalog.pg_roles a left join pg_catalog.pg_shdescription pd on a.oid = pd.objoid ORDER BY a.rolname",
            1,
        ),
        // SQLAlchemy, Metabase, Power BI, Tableau.
        ("select pg_catalog.version()", 1),
        ("SHOW standard_conforming_strings", 1),
        (
            "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'",
            1,
        ),
        (
            "select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.TABLES where TABLE_SCHEMA not in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME",
            8,
        ),
        (
            "SELECT current_database(), current_user, pg_backend_pid(), has_table_privilege('requests', 'SELECT'), has_table_privilege('requests', 'INSERT')",
            1,
        ),
        (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = 'requests'::regclass AND a.attnum > 0",
            60,
        ),
        ("SELECT c.oid::regclass::text FROM pg_class c WHERE relname = 'queries'", 1),
        ("SELECT set_config('bytea_output','hex',false)", 1),
        ("SELECT NULL, NULL, 1, 1", 1),
    ] {
        let rows = ask(&mut raw, sql);
        assert!(rows.len() >= least, "{sql}: {} rows", rows.len());
        assert!(least > 0 || rows.is_empty(), "{sql}: {rows:?}");
    }
    // The same in the extended protocol, where columns are described before there are rows.
    let sql = "SELECT c.oid,c.*,d.description FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON d.objoid=c.oid WHERE c.relname = 'requests'";
    let replies = raw.ask(&[raw::parse("", sql), message(b'D', b"S\0"), sync()].concat());
    let (_, columns) =
        replies.iter().find(|(kind, _)| *kind == b'T').unwrap_or_else(|| panic!("{replies:?}"));
    assert!(columns[2..].starts_with(b"oid\0"), "a mark between two of one name is not shown");
}
