FROM debian AS 1st
RNU apt-get update
COPY --form=build a b
COPY only-one
EXPOSE
RUN ["sh", 1]
ENV A=1 B
HEALTHCHECK MAYBE
