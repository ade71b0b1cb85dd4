ARG A=1 B=${A}2
ARG C
FROM scratch
ARG A B C=c D=${A:-none}${C:+-set} TARGETPLATFORM
ENV V=app.tar.gz
ENV STEM=${V%%.*} END=${V##*.} NO_GZ=${V%.gz} DASH=${V//./-} ONE=${V/a/A} ESC=\$A Q='$A' QQ="$A b"
ENV LEGACY  keeps   its  blanks
LABEL "$V"="x $STEM"
WORKDIR ${NONE:-/work}/$STEM
USER ${U:-nobody}
EXPOSE $A-3 ${P:-53/udp}
CMD echo $V "$A"
