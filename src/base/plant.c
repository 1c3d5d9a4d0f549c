#include "base/plant.h"

#include <stddef.h>
#include <string.h>

#ifdef COTIDAL_PLANT
enum plant planted = PLANT_NONE;
#endif

static const struct {
    const char *name, *help;
} plants[PLANT_COUNT] = {[PLANT_NONE] = {"none", "nothing"},
#define PLANT_ROW(id, text, what) [PLANT_##id] = {text, what},
                         PLANTS(PLANT_ROW)
#undef PLANT_ROW
};

const char *plant_name(enum plant p) {
    return (unsigned)p < PLANT_COUNT ? plants[p].name : NULL;
}

const char *plant_help(enum plant p) {
    return (unsigned)p < PLANT_COUNT ? plants[p].help : NULL;
}

enum plant plant_parse(const char *name) {
    for (unsigned p = 0; p < PLANT_COUNT; p++)
        if (strcmp(plants[p].name, name) == 0)
            return (enum plant)p;
    return PLANT_COUNT;
}
