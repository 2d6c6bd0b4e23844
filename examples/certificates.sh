# Make certificates to try devices.py and device.py with: an authority, the server's, and one of a device.
set -eu

for name in ca server device; do
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $name-key.pem
done

new="openssl req -x509 -new -days 30"
$new -subj "/CN=our devices" -addext keyUsage=critical,keyCertSign -key ca-key.pem -out ca.pem

sign="$new -CA ca.pem -CAkey ca-key.pem -addext basicConstraints=critical,CA:FALSE"
$sign -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -key server-key.pem -out server.pem
$sign -subj /CN=thermometer-1 -key device-key.pem -out device.pem

echo "made ca.pem, server.pem and device.pem, with a key for each"
