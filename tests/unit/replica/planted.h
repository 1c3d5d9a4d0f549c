/* For tests that must fail without a guard: in a build with -Dplant=true, `test_x PLANT FILTER`
 * runs the tests that match the filter with that bug switched on (meson.build lists them, as tests
 * that must fail). Include after cmocka.h. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/plant.h"

static inline void plant_by_arguments(int argc, char **argv) {
    if (argc == 1)
        return;
#ifdef COTIDAL_PLANT
    if (argc == 3 && plant_parse(argv[1]) != PLANT_COUNT) {
        planted = plant_parse(argv[1]);
        cmocka_set_test_filter(argv[2]);
        return;
    }
#endif
    fprintf(stderr, "usage: %s [PLANT FILTER], with -Dplant=true\n", argv[0]);
    exit(0); /* which a test that must fail takes for a failure of its own */
}
