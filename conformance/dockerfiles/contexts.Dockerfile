FROM debian:12 AS base
RUN never
FROM alpine
COPY --from=base /a /
COPY --from=docs . /docs
