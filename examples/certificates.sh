# Make certificates to try devices.py and device.py with: an authority, the server's, and one of a device.
set -eu

new="openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
$new -subj "/CN=our devices" -addext keyUsage=critical,keyCertSign -keyout ca-key.pem -out ca.pem

sign="$new -CA ca.pem -CAkey ca-key.pem -addext basicConstraints=critical,CA:FALSE"
$sign -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server-key.pem -out server.pem
$sign -subj /CN=thermometer-1 -keyout device-key.pem -out device.pem
