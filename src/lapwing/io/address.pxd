# Socket addresses as the kernel gives them, which become objects only when a program asks.


# Cut to the size of an IPv6 address; empty at first.
cdef struct Address:
    unsigned char bytes[28]
    unsigned char size


# Take the addresses of both ends of a connected socket. What the kernel does not tell stays empty.
cdef int take_addresses(int fd, Address *local, Address *peer) noexcept

# Put an address into the form of the `socket` module; None for a family that has no numbers.
cdef object read_address(const Address *address)

# The reverse, for IPv4 and IPv6; None leaves the address empty.
cdef int write_address(Address *address, tuple given) except -1
