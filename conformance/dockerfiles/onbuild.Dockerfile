FROM scratch AS parts
COPY a /a
FROM scratch AS mother
ONBUILD ARG X=1
ONBUILD COPY --from=parts /a /b
FROM mother AS child
RUN x $X
FROM base
RUN after $A
COPY --from=child /b /b
