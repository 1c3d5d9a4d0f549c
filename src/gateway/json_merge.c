#include "gateway/json_merge.h"

#include "base/check.h"

/* Section 2, MergePatch(Target, Patch). */
json_t *json_merge_patch(json_t *target, json_t *patch) {
    const char *name;
    json_t *value;
    if (!json_is_object(patch))
        return json_incref(patch);
    json_t *result = json_is_object(target) ? json_copy(target) : json_object();
    CHECK(result != NULL);
    json_object_foreach(patch, name, value) {
        if (json_is_null(value)) {
            json_object_del(result, name);
            continue;
        }
        json_t *merged = json_merge_patch(json_object_get(result, name), value);
        int rc = json_object_set_new(result, name, merged);
        CHECK(rc == 0);
    }
    return result;
}

bool json_within_depth(const json_t *value, unsigned levels) {
    const char *name;
    json_t *member;
    size_t i;
    if (!json_is_object(value) && !json_is_array(value))
        return true;
    if (levels == 0)
        return false;
    json_object_foreach((json_t *)value, name, member) {
        if (!json_within_depth(member, levels - 1))
            return false;
    }
    json_array_foreach((json_t *)value, i, member) {
        if (!json_within_depth(member, levels - 1))
            return false;
    }
    return true;
}
