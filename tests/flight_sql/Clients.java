// The Flight SQL JDBC driver against the Flight SQL door: rows as over HTTP, parameters, metadata, refusals.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Calendar;
import java.util.List;
import java.util.TimeZone;

public class Clients {
    static String url;

    static void check(boolean right, Object what) {
        if (!right) throw new AssertionError(what);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) values.add(rows.getString(name));
        rows.close();
        return values;
    }

    // One line for each row, which the test compares with HTTP.
    static void rows(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(
                "SELECT time, method, path, status, consumer, duration_us, request_bytes, sampled, trace_id "
                + "FROM requests ORDER BY time, sequence");
            while (rows.next()) {
                Timestamp time = rows.getTimestamp(1, Calendar.getInstance(TimeZone.getTimeZone("UTC")));
                long us = time.getTime() / 1_000 * 1_000_000 + time.getNanos() / 1_000;
                System.out.println("row\t" + us + "\t" + rows.getString(2) + "\t" + rows.getString(3) + "\t"
                    + rows.getInt(4) + "\t" + rows.getString(5) + "\t" + rows.getLong(6) + "\t"
                    + rows.getBigDecimal(7).toPlainString() + "\t" + rows.getBoolean(8) + "\t" + rows.getString(9));
            }
        }
    }

    static void types(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(
                "SELECT 1::smallint, 3::bigint, 2.25::double precision, 12.50::decimal(10, 2), true, 'text', NULL, "
                + "DATE '2026-11-30', ARRAY[1, 2], 'x'::bytea, 18446744073709551615::bigint unsigned, "
                + "TIME '01:02:03', named_struct('x', 1)");
            check(rows.next(), "a row");
            check(rows.getShort(1) == 1 && rows.getLong(2) == 3 && rows.getDouble(3) == 2.25, "numbers");
            check(rows.getBigDecimal(4).equals(new BigDecimal("12.50")) && rows.getBoolean(5), "decimal");
            check(rows.getString(6).equals("text"), rows.getString(6));
            check(rows.getObject(7) == null && rows.wasNull(), "null");
            check(rows.getDate(8, Calendar.getInstance(TimeZone.getTimeZone("UTC"))) != null, rows.getDate(8));
            check(((Object[]) rows.getArray(9).getArray()).length == 2, rows.getArray(9));
            check(rows.getBytes(10)[0] == 'x', "bytes");
            check(rows.getObject(11) != null && rows.getObject(12) != null && rows.getObject(13) != null, "the rest");
            check(!rows.next(), "one row");
            ResultSet everything = statement.executeQuery("SELECT * FROM requests");
            int count = 0;
            while (everything.next()) {
                for (int at = 1; at <= everything.getMetaData().getColumnCount(); at++) everything.getString(at);
                count++;
            }
            check(count == 8, count);
        }
    }

    static void parameters(Connection connection) throws SQLException {
        try (PreparedStatement count = connection.prepareStatement(
                "SELECT count(*) AS n FROM requests WHERE status = ? AND path LIKE ?")) {
            for (int round = 0; round < 4; round++) {
                int status = round % 2 == 0 ? 404 : 201;
                count.setInt(1, status);
                count.setString(2, "/%");
                ResultSet rows = count.executeQuery();
                check(rows.next() && rows.getLong("n") == (status == 404 ? 3 : 2), status);
                rows.close();
            }
            check(count.getParameterMetaData().getParameterCount() == 2, "two parameters");
            check(count.getMetaData().getColumnType(1) == Types.BIGINT, "a count is a long");
        }
    }

    static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData data = connection.getMetaData();
        check(data.getDatabaseProductName().equals("Tollhouse") && data.isReadOnly(), data.getDatabaseProductName());
        check(column(data.getCatalogs(), "TABLE_CAT").equals(List.of("tollhouse")), "one catalogue");
        check(column(data.getSchemas(), "TABLE_SCHEM").contains("system"), "schemas");
        List<String> tables = column(data.getTables("tollhouse", "public", "%", new String[] {"TABLE"}), "TABLE_NAME");
        check(tables.contains("requests") && !tables.contains("queries"), tables);
        List<String> columns = column(data.getColumns("tollhouse", "public", "requests", "%"), "COLUMN_NAME");
        check(columns.contains("trace_id") && columns.contains("duration_us"), columns);
        check(column(data.getTableTypes(), "TABLE_TYPE").equals(List.of("TABLE", "VIEW")), "kinds");
        check(column(data.getPrimaryKeys("tollhouse", "public", "requests"), "COLUMN_NAME").isEmpty(), "keys");
        check(column(data.getImportedKeys("tollhouse", "public", "requests"), "FKTABLE_NAME").isEmpty(), "keys");
    }

    static void refusals(Connection connection) throws SQLException {
        for (String sql : new String[] {"DROP TABLE requests", "SELECT nowhere FROM requests", "SELECT 1; SELECT 2"}) {
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery(sql);
                check(false, sql);
            } catch (SQLException error) {
                check(error.getMessage().contains("refused") || error.getMessage().contains("nowhere"), error);
            }
        }
        try (Statement statement = connection.createStatement()) {
            check(statement.executeQuery("SELECT 1").next(), "the connection goes on");
        }
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        try (Connection connection = DriverManager.getConnection(url, "anybody", "")) {
            rows(connection);
            types(connection);
            parameters(connection);
            metadata(connection);
            refusals(connection);
        }
        System.out.println("done");
        System.exit(0);
    }
}
