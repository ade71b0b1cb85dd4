FROM golang AS tools
FROM alpine
ENV D=/deps
WORKDIR /w
RUN --mount=target=. --mount=type=bind,from=tools,source=/go,target=$D,rw make
RUN --mount=type=secret,id=token,required --mount=type=secret,id=npm,env=NPM_TOKEN --mount=type=ssh --network=none pull $NPM_TOKEN
RUN --mount=type=tmpfs,target=/tmp,size=64m --mount=type=cache,target=/c,from=img:1,source=a,uid=7,gid=8,mode=0700,sharing=private ["t"]
