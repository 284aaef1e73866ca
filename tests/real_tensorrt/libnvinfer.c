/* A stub of libnvinfer, libnvinfer_plugin and libnvonnxparser: what TensorRT's Python package links to.
 *
 * Every object is refused, as on a machine whose CUDA does not start: the builder and the runtime tell their logger
 * why, and return null. LIBNVINFER_SAYS is another message for the logger; it says nothing if that is empty. */
#include <stdlib.h>

enum { ERROR = 1 };
typedef void (*Log)(void *logger, int severity, const char *message);

/* `log` in the logger's table of virtual functions: the first in TensorRT 10, behind what is virtual in its base
 * class since 11. version: such as 101303 */
static void *refuse(void *logger, int version) {
    const char *given = getenv("LIBNVINFER_SAYS");
    const char *said = given ? given : "CUDA initialization failure with error: 35";
    if (*said)
        (*(Log **)logger)[version >= 110000 ? 4 : 0](logger, ERROR, said);
    return NULL;
}

void *createInferBuilder_INTERNAL(void *logger, int version) { return refuse(logger, version); }
void *createInferRuntime_INTERNAL(void *logger, int version) { return refuse(logger, version); }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return NULL; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return NULL; }
int getNvOnnxParserVersion(void) { return 0; }
void *getPluginRegistry(void) { return NULL; }
void *getBuilderPluginRegistry(int capability) { return NULL; }
int initLibNvInferPlugins(void *logger, const char *space) { return 0; }
