// A server that answers each line with how many lines this connection has sent and a secret; a table in memory grows.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

public class Server {
    static final long SECRET = new SecureRandom().nextLong() >>> 1;
    static final int KEPT = 10_000;
    static final Map<String, String> TABLE = new ConcurrentHashMap<>();

    public static void main(String[] arguments) throws IOException {
        boolean tcp = arguments[0].matches("\\d+");
        ServerSocketChannel server = ServerSocketChannel.open(tcp ? StandardProtocolFamily.INET : StandardProtocolFamily.UNIX);
        server.bind(tcp ? new InetSocketAddress(Integer.parseInt(arguments[0])) : UnixDomainSocketAddress.of(arguments[0]));
        while (true) {
            SocketChannel client = server.accept();
            Thread.ofPlatform().start(() -> serve(client));
        }
    }

    static void serve(SocketChannel client) {
        try (client) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(Channels.newInputStream(client)));
            int count = 0;
            for (String line; (line = lines.readLine()) != null; ) {
                count++;
                String earlier = TABLE.put(line.split(" ")[0] + count % KEPT, line);
                String word = earlier == null || line.length() >= earlier.length() ? line : "a shorter one came later";
                client.write(ByteBuffer.wrap((word + " " + count + " " + SECRET + "\r\n").getBytes(StandardCharsets.UTF_8)));
            }
        } catch (IOException error) {
            error.printStackTrace();
        }
    }
}
