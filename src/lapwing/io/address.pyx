"""The addresses of both ends of a connection."""

import socket
import struct
import sys

from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy

__all__ = []


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        pass
    int c_getsockname "getsockname"(int fd, sockaddr *address, socklen_t *size)
    int c_getpeername "getpeername"(int fd, sockaddr *address, socklen_t *size)


cdef int take_addresses(int fd, Address *local, Address *peer) noexcept:
    cdef sockaddr_storage storage
    cdef socklen_t size = sizeof(storage)
    if c_getsockname(fd, <sockaddr *>&storage, &size) == 0:
        store_address(local, &storage, size)
    size = sizeof(storage)
    if c_getpeername(fd, <sockaddr *>&storage, &size) == 0:
        store_address(peer, &storage, size)
    return 0


cdef int store_address(Address *address, const sockaddr_storage *storage, socklen_t size) noexcept:
    address.size = <unsigned char>min(size, sizeof(address.bytes))
    memcpy(address.bytes, storage, address.size)
    return 0


cdef object read_address(const Address *address):
    cdef bytes raw = (<char *>address.bytes)[:address.size]
    if len(raw) < 8:
        return None
    cdef int family = (<unsigned short *><char *>raw)[0]
    cdef int port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return (socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
    if family == socket.AF_INET6:
        host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        return (host, port, int.from_bytes(raw[4:8], "big"), int.from_bytes(raw[24:28], sys.byteorder))
    return None


cdef int write_address(Address *address, tuple given) except -1:
    cdef bytes raw
    if given is None:
        return 0
    if len(given) == 2:
        raw = struct.pack("=H", socket.AF_INET) + given[1].to_bytes(2, "big") + socket.inet_aton(given[0])
    else:
        raw = struct.pack("=H", socket.AF_INET6) + given[1].to_bytes(2, "big") + bytes(4)
        raw += socket.inet_pton(socket.AF_INET6, given[0]) + bytes(4)
    address.size = <unsigned char>len(raw)
    memcpy(address.bytes, PyBytes_AS_STRING(raw), len(raw))
    return 0
