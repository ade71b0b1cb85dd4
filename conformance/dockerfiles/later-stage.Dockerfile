FROM scratch
COPY --from=last a b
FROM scratch AS last
