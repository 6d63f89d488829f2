// scl-lib is written for bundlers: some of its imports leave out the extension. This hook adds it.
export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || !specifier.startsWith(".")) throw error;
    return next(`${specifier}.js`, context);
  }
}
