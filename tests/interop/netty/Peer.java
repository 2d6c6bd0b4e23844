// Netty as a peer; ../program.py says what the words on stdin and stdout mean.

import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.ChannelPromise;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.websocketx.BinaryWebSocketFrame;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.ContinuationWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PingWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PongWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolConfig;
import io.netty.handler.codec.http.websocketx.WebSocketClientProtocolHandler;
import io.netty.handler.codec.http.websocketx.WebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketFrameAggregator;
import io.netty.handler.codec.http.websocketx.WebSocketServerProtocolConfig;
import io.netty.handler.codec.http.websocketx.WebSocketServerProtocolHandler;
import io.netty.handler.codec.http.websocketx.extensions.compression.WebSocketClientCompressionHandler;
import io.netty.handler.codec.http.websocketx.extensions.compression.WebSocketServerCompressionHandler;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

public class Peer {
    private static final int CONTINUATION = 0, TEXT = 1, BINARY = 2;

    private static final NioEventLoopGroup LOOP = new NioEventLoopGroup(1);
    private static final Map<String, Channel> SERVERS = new ConcurrentHashMap<>();
    private static final Map<String, Channel> ENDS = new ConcurrentHashMap<>();
    private static final PrintStream OUT = new PrintStream(System.out, false);
    private static int accepted = 0; // LOOP has one thread, which alone uses this

    private static synchronized void tell(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.length() == 0 ? "" : " ").append(word);
        }
        byte[] bytes = line.append('\n').toString().getBytes(StandardCharsets.ISO_8859_1);
        OUT.write(bytes, 0, bytes.length);
        OUT.flush();
    }

    private static String pack(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }

    private static String pack(String text) {
        return text == null ? "-" : pack(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String pack(ByteBuf buffer) {
        return pack(ByteBufUtil.getBytes(buffer));
    }

    private static ByteBuf unpack(String word) {
        return Unpooled.wrappedBuffer(Base64.getDecoder().decode(word));
    }

    private static String unpackText(String word) {
        return word.equals("-") ? null : new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }

    /** Sees the frames before Netty answers the control frames among them. */
    private static class ControlFrames extends ChannelDuplexHandler {
        private final End end;
        private boolean isClosing = false;

        ControlFrames(End end) {
            this.end = end;
        }

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) {
            if (message instanceof PongWebSocketFrame) {
                tell("end", end.number, "pong", pack(((PongWebSocketFrame) message).content()));
            } else if (message instanceof CloseWebSocketFrame) {
                CloseWebSocketFrame close = (CloseWebSocketFrame) message;
                if (end.server == null && !isClosing) { // Netty's client handler would close TCP without an answer
                    context.writeAndFlush(new CloseWebSocketFrame(true, 0, close.content().copy()));
                }
                end.tellClosed(close.statusCode() < 0 ? 1005 : close.statusCode(), close.reasonText());
            }
            context.fireChannelRead(message);
        }

        @Override
        public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
            isClosing |= message instanceof CloseWebSocketFrame;
            context.write(message, promise);
        }
    }

    /** What is left of the frames, whole messages, and what else happens to the connection. */
    private static class End extends SimpleChannelInboundHandler<WebSocketFrame> {
        private final String server;
        private String number;
        private boolean isClosed = false;

        End(String server, String number) {
            this.server = server;
            this.number = number;
        }

        void tellClosed(int code, String reason) {
            if (!isClosed) {
                isClosed = true;
                ENDS.remove(number);
                tell("end", number, "closed", code, pack(reason));
            }
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (event instanceof WebSocketServerProtocolHandler.HandshakeComplete) {
                number = String.valueOf(--accepted);
                ENDS.put(number, context.channel());
                String chosen = ((WebSocketServerProtocolHandler.HandshakeComplete) event).selectedSubprotocol();
                tell("server", server, "accepted", number, pack(chosen));
            } else if (event == WebSocketClientProtocolHandler.ClientHandshakeStateEvent.HANDSHAKE_COMPLETE) {
                ENDS.put(number, context.channel());
                String chosen = context.pipeline().get(WebSocketClientProtocolHandler.class).handshaker().actualSubprotocol();
                tell("end", number, "open", pack(chosen == null || chosen.isEmpty() ? null : chosen));
            }
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, WebSocketFrame frame) {
            if (frame instanceof TextWebSocketFrame) {
                tell("end", number, "message", TEXT, pack(frame.content()));
            } else if (frame instanceof BinaryWebSocketFrame) {
                tell("end", number, "message", BINARY, pack(frame.content()));
            }
        }

        @Override
        public void channelInactive(ChannelHandlerContext context) {
            if (number != null) {
                tellClosed(1006, "");
            }
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable error) {
            if (number != null && !isClosed) {
                tell("end", number, "error", pack(String.valueOf(error)));
            }
            context.close();
        }
    }

    private static void listen(String server, int limit, String certificate, String key, String subprotocols) throws Exception {
        SslContext tls = certificate == null ? null : SslContextBuilder.forServer(new File(certificate), new File(key)).build();
        WebSocketServerProtocolConfig config = WebSocketServerProtocolConfig.newBuilder()
            .websocketPath("/").subprotocols(subprotocols).allowExtensions(true).maxFramePayloadLength(limit).build();
        ServerBootstrap bootstrap = new ServerBootstrap().group(LOOP).channel(NioServerSocketChannel.class);
        bootstrap.childHandler(new ChannelInitializer<Channel>() {
            @Override
            protected void initChannel(Channel channel) {
                ChannelPipeline pipeline = channel.pipeline();
                if (tls != null) {
                    pipeline.addLast(tls.newHandler(channel.alloc()));
                }
                End end = new End(server, null);
                pipeline.addLast(new HttpServerCodec(), new HttpObjectAggregator(65536));
                pipeline.addLast(new WebSocketServerCompressionHandler(), new ControlFrames(end));
                pipeline.addLast(new WebSocketServerProtocolHandler(config), new WebSocketFrameAggregator(limit), end);
            }
        });
        Channel channel = bootstrap.bind("127.0.0.1", 0).sync().channel();
        SERVERS.put(server, channel);
        tell("server", server, "listening", ((InetSocketAddress) channel.localAddress()).getPort());
    }

    private static void connect(String number, int limit, String authority, String subprotocols, URI url) throws Exception {
        SslContext tls = authority == null ? null : SslContextBuilder.forClient().trustManager(new File(authority)).build();
        WebSocketClientProtocolConfig config = WebSocketClientProtocolConfig.newBuilder()
            .webSocketUri(url).subprotocol(subprotocols.isEmpty() ? null : subprotocols)
            .allowExtensions(true).maxFramePayloadLength(limit).build();
        Bootstrap bootstrap = new Bootstrap().group(LOOP).channel(NioSocketChannel.class);
        bootstrap.handler(new ChannelInitializer<Channel>() {
            @Override
            protected void initChannel(Channel channel) {
                ChannelPipeline pipeline = channel.pipeline();
                if (tls != null) {
                    pipeline.addLast(tls.newHandler(channel.alloc(), url.getHost(), url.getPort()));
                }
                End end = new End(null, number);
                pipeline.addLast(new HttpClientCodec(), new HttpObjectAggregator(65536));
                pipeline.addLast(WebSocketClientCompressionHandler.INSTANCE, new ControlFrames(end));
                pipeline.addLast(new WebSocketClientProtocolHandler(config), new WebSocketFrameAggregator(limit), end);
            }
        });
        bootstrap.connect(url.getHost(), url.getPort());
    }

    private static WebSocketFrame frame(int opcode, boolean fin, ByteBuf payload) {
        switch (opcode) {
            case TEXT: return new TextWebSocketFrame(fin, 0, payload);
            case BINARY: return new BinaryWebSocketFrame(fin, 0, payload);
            default: return new ContinuationWebSocketFrame(fin, 0, payload);
        }
    }

    private static void send(String number, Object frame) {
        Channel channel = ENDS.get(number);
        if (channel != null) {
            channel.writeAndFlush(frame);
        }
    }

    private static void act(String[] words) throws Exception {
        String number = words[1];
        switch (words[0]) {
            case "listen":
                listen(number, Integer.parseInt(words[2]), unpackText(words[3]), unpackText(words[4]), unpackText(words[5]));
                break;
            case "stop":
                SERVERS.remove(number).close();
                break;
            case "connect":
                URI url = URI.create(unpackText(words[5]));
                connect(number, Integer.parseInt(words[2]), unpackText(words[3]), unpackText(words[4]), url);
                break;
            case "send":
                send(number, frame(Integer.parseInt(words[2]), true, unpack(words[3])));
                break;
            case "fragment":
                send(number, frame(Integer.parseInt(words[2]), words[3].equals("1"), unpack(words[4])));
                break;
            case "ping":
                send(number, new PingWebSocketFrame(unpack(words[2])));
                break;
            case "close":
                boolean isEmpty = words[2].equals("-");
                send(number, isEmpty ? new CloseWebSocketFrame()
                    : new CloseWebSocketFrame(Integer.parseInt(words[2]), unpackText(words[3])));
                break;
            case "terminate":
                Channel channel = ENDS.get(number);
                if (channel != null) {
                    channel.close();
                }
                break;
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.ISO_8859_1), 65536);
        try {
            for (String line = commands.readLine(); line != null; line = commands.readLine()) {
                act(line.split(" ", -1));
            }
        } catch (Exception error) { // the thread of LOOP would go on
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }
}
