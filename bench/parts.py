"""What is measured: the parts of a run, in the order of the tables."""

from client_parts import CLIENT_PARTS
from compression_part import COMPRESSION_PART
from hub_part import HUB_PART
from server_parts import SERVER_PARTS

PARTS = (*SERVER_PARTS, HUB_PART, COMPRESSION_PART, *CLIENT_PARTS)
