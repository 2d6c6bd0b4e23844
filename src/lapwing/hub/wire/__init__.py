"""The client protocol of Centrifugo, without I/O: its messages, its two codecs, and the conversation of each end."""
