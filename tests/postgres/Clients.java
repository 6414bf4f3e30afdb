// The PostgreSQL JDBC driver against the PostgreSQL door: rows as over HTTP, parameters, parts, metadata.

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.TimeZone;

public class Clients {
    static String url;

    static void check(boolean right, Object what) {
        if (!right) throw new AssertionError(what);
    }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", "anybody");
        for (int at = 0; at < options.length; at += 2) properties.setProperty(options[at], options[at + 1]);
        return DriverManager.getConnection(url, properties);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) values.add(rows.getString(name));
        rows.close();
        return values;
    }

    // One line for each row, which the test compares with HTTP.
    static void rows() throws SQLException {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(
                "SELECT time, method, path, status, consumer, duration_us, request_bytes, sampled, trace_id "
                + "FROM requests ORDER BY time, sequence");
            while (rows.next()) {
                OffsetDateTime time = rows.getObject(1, OffsetDateTime.class).withOffsetSameInstant(ZoneOffset.UTC);
                long us = time.toEpochSecond() * 1_000_000 + time.getNano() / 1_000;
                int status = rows.getInt(4);
                System.out.println("row\t" + us + "\t" + rows.getString(2) + "\t" + rows.getString(3) + "\t" + status + "\t"
                    + rows.getString(5) + "\t" + rows.getLong(6) + "\t" + rows.getBigDecimal(7).toPlainString() + "\t"
                    + rows.getBoolean(8) + "\t" + rows.getString(9));
            }
        }
    }

    static void parameters(String... options) throws SQLException {
        try (Connection connection = connect(options)) {
            PreparedStatement count = connection.prepareStatement(
                "SELECT count(*) AS n, max(time) FROM requests WHERE status = ? AND path LIKE ? AND time > ?");
            // Often enough for the driver to prepare it on the server, and to ask for binary.
            for (int round = 0; round < 12; round++) {
                int status = round % 2 == 0 ? 404 : 201;
                count.setInt(1, status);
                count.setString(2, "/%");
                count.setTimestamp(3, Timestamp.valueOf("2020-01-01 00:00:00"));
                ResultSet rows = count.executeQuery();
                check(rows.next() && rows.getLong("n") == (status == 404 ? 3 : 2), status);
                check(rows.getTimestamp(2).getTime() > 1_600_000_000_000L, rows.getTimestamp(2));
                check(!rows.next(), "one row");
            }
            check(count.getParameterMetaData().getParameterType(1) == Types.INTEGER, "a status is a number");
            check(count.getMetaData().getColumnType(1) == Types.BIGINT, "a count is a long");
            PreparedStatement kinds = connection.prepareStatement(
                "SELECT ?::bigint, ?::double precision, ?::boolean, ?, ?::numeric, ?::date");
            for (int round = 0; round < 7; round++) {
                kinds.setLong(1, 1L << 40);
                kinds.setDouble(2, 1.5);
                kinds.setBoolean(3, true);
                kinds.setString(4, "it's");
                kinds.setBigDecimal(5, new java.math.BigDecimal("12.50"));
                kinds.setObject(6, java.time.LocalDate.of(2026, 2, 3));
                ResultSet rows = kinds.executeQuery();
                check(rows.next(), "a row");
                check(rows.getLong(1) == 1L << 40 && rows.getDouble(2) == 1.5 && rows.getBoolean(3), "numbers");
                check(rows.getString(4).equals("it's"), rows.getString(4));
                check(rows.getBigDecimal(5).doubleValue() == 12.5, rows.getBigDecimal(5));
                check(rows.getDate(6).toString().equals("2026-02-03"), rows.getDate(6));
            }
            PreparedStatement list = connection.prepareStatement("SELECT count(*) FROM requests WHERE consumer = ANY(?)");
            list.setArray(1, connection.createArrayOf("text", new Object[] {"alice", "bob"}));
            ResultSet rows = list.executeQuery();
            check(rows.next() && rows.getInt(1) == 6, "of both");
            rows = connection.createStatement().executeQuery("SELECT ARRAY['a', 'b c'], ARRAY[1, 2]");
            rows.next();
            check(((String[]) rows.getArray(1).getArray())[1].equals("b c"), "a list of texts");
            check(((Long[]) rows.getArray(2).getArray())[1] == 2, "a list of numbers");
        }
    }

    static void parts() throws SQLException {
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            Statement statement = connection.createStatement();
            statement.setFetchSize(100);
            ResultSet rows = statement.executeQuery("SELECT value FROM generate_series(1, 1000) ORDER BY value");
            long sum = 0;
            int count = 0;
            while (rows.next()) {
                sum += rows.getLong(1);
                count += 1;
            }
            check(count == 1000 && sum == 500500, count);
            connection.commit();
            statement.setMaxRows(5);
            check(column(statement.executeQuery("SELECT value FROM generate_series(1, 1000)"), "value").size() == 5, "five");
            connection.rollback();
        }
    }

    static void errors() throws Exception {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            for (String[] one : new String[][] {
                {"SELEC", "42601"}, {"SELECT nope FROM requests", "42703"}, {"SELECT * FROM nope", "42P01"},
                {"CREATE TABLE x (a int)", "42501"}, {"SELECT 1; SELECT 2; DROP TABLE x", "42501"}}) {
                try {
                    statement.execute(one[0]);
                    throw new AssertionError(one[0]);
                } catch (SQLException error) {
                    check(one[1].equals(error.getSQLState()), one[0] + ": " + error.getSQLState() + " " + error.getMessage());
                }
            }
            statement.setQueryTimeout(1);
            try {
                statement.executeQuery("SELECT count(*) FROM generate_series(1, 20000) a, "
                    + "generate_series(1, 1000000000) b WHERE (a.value * b.value) % 7 = 3");
                throw new AssertionError("it ended");
            } catch (SQLException error) {
                check("57014".equals(error.getSQLState()), error);
            }
            ResultSet rows = statement.executeQuery("SELECT 1");
            check(rows.next() && rows.getInt(1) == 1, "it goes on");
        }
    }

    static void metadata() throws SQLException {
        try (Connection connection = connect()) {
            DatabaseMetaData data = connection.getMetaData();
            check(data.getDatabaseProductName().equals("PostgreSQL") && data.getDatabaseMajorVersion() == 16, "16");
            check(connection.isValid(5), "valid");
            check(column(data.getSchemas(), "TABLE_SCHEM").containsAll(List.of("public", "system", "pg_catalog")), "schemas");
            check(column(data.getCatalogs(), "TABLE_CAT").equals(List.of("tollhouse")), "catalogs");
            check(column(data.getTables(null, "public", "%", new String[] {"TABLE"}), "TABLE_NAME").contains("requests"), "tables");
            check(column(data.getTables(null, "public", "%", new String[] {"VIEW"}), "TABLE_NAME").contains("consumers"), "views");
            check(column(data.getTables(null, null, "queries", null), "TABLE_SCHEM").equals(List.of("system")), "any schema");
            ResultSet columns = data.getColumns(null, "public", "requests", "%");
            List<String> names = new ArrayList<>();
            while (columns.next()) {
                names.add(columns.getString("COLUMN_NAME"));
                if (names.size() == 1) {
                    check(columns.getInt("DATA_TYPE") == Types.TIMESTAMP, columns.getInt("DATA_TYPE"));
                    check(columns.getString("TYPE_NAME").equals("timestamptz"), columns.getString("TYPE_NAME"));
                    check(columns.getString("IS_NULLABLE").equals("NO"), "not null");
                    check(columns.getString("REMARKS").equals("When the request head was received."), columns.getString("REMARKS"));
                }
            }
            check(names.get(0).equals("time") && names.contains("duration_us") && names.size() > 40, names);
            check(column(data.getPrimaryKeys(null, "public", "requests"), "COLUMN_NAME").isEmpty(), "keys");
            check(column(data.getIndexInfo(null, "public", "requests", false, false), "INDEX_NAME").isEmpty(), "indexes");
            check(column(data.getImportedKeys(null, "public", "requests"), "FKCOLUMN_NAME").isEmpty(), "imported keys");
            check(column(data.getExportedKeys(null, "public", "requests"), "FKCOLUMN_NAME").isEmpty(), "exported keys");
            check(column(data.getFunctions(null, "public", "%"), "FUNCTION_NAME").contains("time_bucket"), "functions");
            check(column(data.getProcedures(null, "public", "%"), "PROCEDURE_NAME").isEmpty(), "procedures");
            check(column(data.getTypeInfo(), "TYPE_NAME").contains("timestamptz"), "types");
            check(column(data.getTableTypes(), "TABLE_TYPE").contains("TABLE"), "table types");
            column(data.getTablePrivileges(null, "public", "requests"), "GRANTEE");
            column(data.getColumnPrivileges(null, "public", "requests", "%"), "GRANTEE");
            column(data.getBestRowIdentifier(null, "public", "requests", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME");
            column(data.getUDTs(null, null, "%", null), "TYPE_NAME");
            data.getSQLKeywords();
            data.getMaxColumnNameLength();
            data.getUserName();
        }
    }

    public static void main(String[] arguments) throws Exception {
        // What a client's zone is does not matter.
        TimeZone.setDefault(TimeZone.getTimeZone("Asia/Kathmandu"));
        url = arguments[0];
        rows();
        parameters();
        parameters("preferQueryMode", "simple");
        parameters("binaryTransfer", "true", "prepareThreshold", "-1");
        parts();
        errors();
        metadata();
        System.out.println("done");
    }
}
