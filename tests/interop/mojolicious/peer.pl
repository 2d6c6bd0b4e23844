# Mojolicious as a peer; ../program.py says what the words on stdin and stdout mean.
use Mojo::Base -strict, -signatures;

use Mojo::IOLoop;
use Mojo::Server::Daemon;
use Mojo::URL;
use Mojo::UserAgent;
use Mojo::Util      qw(b64_decode b64_encode);
use Mojo::WebSocket qw(WS_BINARY WS_PING WS_PONG WS_TEXT);
use Mojolicious;

my (%servers, %agents, %ends);
my $accepted = 0;
STDOUT->autoflush(1);

sub pack_word   ($bytes) { defined $bytes ? b64_encode($bytes, '') : '-' }
sub unpack_word ($word)  { $word eq '-'   ? undef                  : b64_decode($word) }

sub tell_event (@words) { print join(' ', @words), "\n" }

sub watch ($end, $tx) {
  $ends{$end} = $tx;
  $tx->on(text   => sub ($, $bytes) { tell_event('end', $end, 'message', WS_TEXT,   pack_word($bytes)) });
  $tx->on(binary => sub ($, $bytes) { tell_event('end', $end, 'message', WS_BINARY, pack_word($bytes)) });
  $tx->on(frame  => sub ($, $frame) {
    tell_event('end', $end, 'pong', pack_word($frame->[5])) if $frame->[4] == WS_PONG;
  });
  $tx->on(finish => sub ($, $code, $reason) {
    delete $ends{$end};
    delete $agents{$end};
    utf8::encode($reason //= '');
    tell_event('end', $end, 'closed', $code, pack_word($reason));
  });
}

my %does = (
  listen => sub ($server, $limit, $certificate, $key, $subprotocols) {
    my $app = Mojolicious->new;
    $app->log->level('fatal');
    $app->routes->websocket('/' => sub ($c) {
      my $tx = $c->tx;
      $c->inactivity_timeout(0);
      $tx->max_websocket_size($limit);
      $tx->with_protocols(split /,/, unpack_word($subprotocols));
      $tx->with_compression;
      $c->rendered(101);
      my $end = --$accepted;
      watch($end, $tx);
      tell_event('server', $server, 'accepted', $end, pack_word($tx->protocol));
    });
    my $url = Mojo::URL->new('http://127.0.0.1');
    $url->scheme('https')->query(cert => unpack_word($certificate), key => unpack_word($key)) if $certificate ne '-';
    my $daemon = Mojo::Server::Daemon->new(app => $app, listen => ["$url"], silent => 1, inactivity_timeout => 0);
    $servers{$server} = $daemon->start;
    tell_event('server', $server, 'listening', $daemon->ports->[0]);
  },

  stop => sub ($server) { (delete $servers{$server})->stop },

  connect => sub ($end, $limit, $authority, $subprotocols, $url) {
    my $agent = $agents{$end} = Mojo::UserAgent->new(inactivity_timeout => 0);
    $agent->ca(unpack_word($authority)) if $authority ne '-';
    my %headers   = ('Sec-WebSocket-Extensions' => 'permessage-deflate');
    my @protocols = split /,/, unpack_word($subprotocols);
    $agent->websocket(unpack_word($url) => \%headers => \@protocols => sub ($, $tx) {
      return tell_event('end', $end, 'error', pack_word($tx->error->{message} // 'no WebSocket')) unless $tx->is_websocket;
      $tx->max_websocket_size($limit);
      watch($end, $tx);
      tell_event('end', $end, 'open', pack_word($tx->protocol));
    });
  },

  send => sub ($end, $opcode, $payload) {
    $ends{$end}->send({($opcode == WS_TEXT ? 'text' : 'binary') => unpack_word($payload)});
  },

  fragment => sub ($end, $opcode, $fin, $payload) { $ends{$end}->send([$fin, 0, 0, 0, $opcode, unpack_word($payload)]) },

  ping => sub ($end, $payload) { $ends{$end}->send([1, 0, 0, 0, WS_PING, unpack_word($payload)]) },

  close => sub ($end, $code, $reason) {
    return unless my $tx = $ends{$end};
    utf8::decode($reason = unpack_word($reason));
    $code eq '-' ? $tx->finish : $tx->finish($code, $reason);
  },

  terminate => sub ($end) {
    return unless my $tx = $ends{$end};
    Mojo::IOLoop->remove($tx->connection);
  },
);

my $unread  = '';
my $stdin   = Mojo::IOLoop::Stream->new(\*STDIN)->timeout(0);
my $stopped = sub { Mojo::IOLoop->stop };
$stdin->on(read => sub ($, $bytes) {
  my $searched = length $unread;
  $unread .= $bytes;
  return if index($unread, "\n", $searched) < 0;
  my @lines = split /\n/, $unread, -1;
  $unread = pop @lines;
  for my $line (@lines) {
    my ($what, @words) = split / /, $line, -1;
    $does{$what}->(@words);
  }
});
$stdin->on($_ => $stopped) for qw(close error);
Mojo::IOLoop->stream($stdin);
Mojo::IOLoop->start;
