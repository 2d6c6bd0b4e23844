# Where a JSON value, or a part of it, ends: `json_text.h`. The pointers are borrowed.

cdef extern from "json_text.h" nogil:
    const unsigned char *json_space "lapwing_json_space"(const unsigned char *at, const unsigned char *end)
    const unsigned char *json_string "lapwing_json_string"(const unsigned char *at, const unsigned char *end)
    const unsigned char *json_number "lapwing_json_number"(const unsigned char *at, const unsigned char *end)
    const unsigned char *json_value "lapwing_json_value"(const unsigned char *at, const unsigned char *end, int deepest)
    size_t json_compact "lapwing_json_compact"(const unsigned char *data, size_t size, unsigned char *to)
